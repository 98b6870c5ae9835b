# Everything here is one command, too; .ci/run needs no make.
GO ?= go
FUZZTIME ?= 10s
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
ACTIONLINT = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
GB ?= 1
REPS ?= 5

.PHONY: all build test race portable fuzz lint vuln generated interop-venv interop bench-seal bench-hub bench-gguf bench-train actionlint release-check snapshot go-install man wheels ci clean

all: build

build: ## the static binary, bin/neuroseal
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ ./cmd/neuroseal

test: ## all tests that need nothing but Go
	$(GO) test ./...

race: ## the same under the race detector, without what spends a minute in scrypt there
	GORACE=atexit_sleep_ms=0 $(GO) test -race -short -timeout 30m -skip '^TestScripts$$/^(demo|key|lock_password|terminal)$$' ./...

portable: ## the packages with assembly, as a processor without AVX2 runs them
	$(GO) test -exec 'env GODEBUG=cpu.avx2=off' -skip '^TestUnderflowDecidesTies$$' ./internal/dtype ./internal/sha256x2 ./checkpoint ./tensor ./probe ./seal ./gguf

fuzz: ## every fuzz target for FUZZTIME
	tools/fuzz.sh $(FUZZTIME)

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags interop ./...
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=windows GOARCH=amd64 $(GO) vet ./...
	$(GO) run $(STATICCHECK) -tags interop ./...

vuln: ## known vulnerabilities
	tools/vuln.sh

generated: ## the assembly is what its generators write
	tools/generated.sh

interop-venv: ## a Python with transformers, in the user's cache
	interop/venv.sh

interop: ## transformers, safetensors and age judge what we write, Ray and Slurm run it
	python=$$(interop/venv.sh) && export NEUROSEAL_PYTHON=$$python && \
	if ray=$$(interop/ray.sh); then eval "$$ray"; else echo "without Ray: what needs it is skipped"; export NEUROSEAL_RAY=none; fi && \
	if slurm=$$(interop/slurm.sh); then eval "$$slurm"; else echo "without Slurm: what needs it is skipped"; export NEUROSEAL_SLURM=none; fi && \
	$(GO) test -tags interop -count=1 -timeout 30m ./interop/... ./safetensors ./keys ./report ./arena/jobs ./arena/trl

bench-gguf: ## the same with a GGUF of the shape of Q4_K_M
	$(GO) run ./tools/bench-seal -gguf -gb $(GB) -reps $(REPS)

bench-seal: ## a checkpoint of GB gigabytes: cp, SHA-256, lock, unlock, verify
	$(GO) run ./tools/bench-seal -gb $(GB) -reps $(REPS)

bench-hub: ## a checkpoint of GB gigabytes from a hub on loopback: curl, hub with its checksums, lock as it arrives
	mkdir -p bench-out && $(GO) build -trimpath -ldflags '-s -w' -o bench-out/ ./tools/bench-hub ./tools/bench-seal ./cmd/neuroseal
	rm -rf bench-out/hub-model && bench-out/bench-seal make bench-out/hub-model $(GB)
	bench-out/bench-hub -reps $(REPS) -neuroseal bench-out/neuroseal bench-out/hub-model; rm -rf bench-out/hub-model

bench-train: ## the training engine next to PyTorch, REPS times in turn: speed and peak memory
	python=$${NEUROSEAL_PYTHON:-$$(interop/venv.sh)} && mkdir -p bench-out && $(GO) build -trimpath -o bench-out/bench-train ./tools/bench-train && \
		bench-out/bench-train -python $$python -reps $(REPS) -json bench-out/train.json

actionlint: ## the workflows
	$(GO) run $(ACTIONLINT) .github/workflows/*.yml

release-check: ## the configuration of releases, without building anything
	tools/release/goreleaser.sh check

snapshot: ## a release of the commit that is checked out, into dist; nothing is published
	tools/release/goreleaser.sh release --snapshot --clean
	tools/release/inspect.sh dist

go-install: ## "go install …@version" of the commit that is checked out
	tools/release/install.sh

man: ## manual pages, dist/man
	$(GO) run ./cmd/neuroseal man dist/man

wheels: ## Python wheels for every platform, dist/wheels; DIST names a folder of binaries that are there
	$(GO) run ./tools/wheel -out dist/wheels $(DIST)

ci: ## what the project demands of every change
	.ci/run

clean:
	rm -rf bin dist bench-out
