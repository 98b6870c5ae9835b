#!/usr/bin/env bash
# Writes the bill of materials of a binary, in CycloneDX: what the binary itself
# says that it was built from. sbom.sh BINARY DOCUMENT VERSION
set -euo pipefail
cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
binary=$1 document=$2 version=$3
# No serial number and no time: the same binary gives the same document.
GOFLAGS='' go run "$cyclonedx" bin -json -std -licenses -noserial -notimestamp \
    -version "$version" -output "$document" "$binary"
