#!/usr/bin/env bash
# Runs the tests of the packages with assembly as arm64: as they are on such a
# machine, elsewhere under qemu (Debian and Ubuntu: qemu-user-static), and not at
# all where there is neither.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
packages=(./tensor ./internal/dtype)
GOARCH=arm64 go vet "${packages[@]}"
if [ "$(go env GOHOSTARCH)" = arm64 ]; then
    exec go test "${packages[@]}"
fi
for qemu in qemu-aarch64-static qemu-aarch64; do
    if command -v "$qemu" >/dev/null; then
        exec env GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go test -short -exec "$qemu" "${packages[@]}"
    fi
done
echo "arm64: skipped: no qemu-aarch64-static and no qemu-aarch64 here"
