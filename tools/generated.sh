#!/usr/bin/env bash
# Demands that the generators write the assembly that is committed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for dir in internal/dtype tensor; do
    go -C "$dir/asm" vet .
    go -C "$dir/asm" run . -out "$out/kernels_amd64.s" -stubs "$out/kernels_amd64.go" -pkg "$(basename "$dir")"
    for file in kernels_amd64.s kernels_amd64.go; do
        # The first line names the files as they were called.
        if ! diff <(tail -n +2 "$out/$file") <(tail -n +2 "$dir/$file"); then
            echo "$dir/$file is not what $dir/asm writes: run go generate ./$dir" >&2
            exit 1
        fi
    done
    echo "$dir: as generated"
done
