#!/usr/bin/env bash
# Writes what goes with the command into a folder: completions for four shells,
# manual pages, dated as the commit, and the licences of what is linked into it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=${1:?the folder to write}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
rm -rf "$out"
mkdir -p "$out/completions" "$out/man"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
env -u GOOS -u GOARCH CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$scratch/neuroseal" ./cmd/neuroseal
"$scratch/neuroseal" completion bash >"$out/completions/neuroseal.bash"
"$scratch/neuroseal" completion zsh >"$out/completions/_neuroseal"
"$scratch/neuroseal" completion fish >"$out/completions/neuroseal.fish"
"$scratch/neuroseal" completion powershell >"$out/completions/neuroseal.ps1"
"$scratch/neuroseal" man "$out/man" >/dev/null
env -u GOOS -u GOARCH go run ./tools/notices >"$out/THIRD_PARTY_NOTICES.txt"
