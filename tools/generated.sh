#!/usr/bin/env bash
# Demands that the generators write the assembly that is committed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# same DIR GENERATOR FILE ARGUMENT…: DIR/asm's GENERATOR writes FILE.s and FILE.go
# with the package's other arguments.
same() {
    local dir=$1 generator=$2 name=$3
    shift 3
    go -C "$dir/asm" run "$generator" -out "$out/$name.s" -stubs "$out/$name.go" "$@"
    for file in "$name.s" "$name.go"; do
        # The first line names the files as they were called.
        if ! diff <(tail -n +2 "$out/$file") <(tail -n +2 "$dir/$file"); then
            echo "$dir/$file is not what $dir/asm writes: run go generate ./$dir" >&2
            exit 1
        fi
    done
    echo "$dir/$name: as generated"
}

for dir in internal/dtype internal/sha256x2 tensor gguf; do go -C "$dir/asm" vet ./...; done
same internal/dtype . kernels_amd64 -pkg dtype
same internal/sha256x2 . kernels_amd64 -pkg sha256x2
same tensor . kernels_amd64 -pkg tensor
same gguf . kernels_amd64 -pkg gguf
same tensor ./gemm gemm_kernels_amd64 -pkg tensor
same tensor ./neon neon_arm64
