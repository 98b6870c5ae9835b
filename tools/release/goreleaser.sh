#!/usr/bin/env bash
# Runs goreleaser at the version that .goreleaser.yaml is written for, built from
# source: the Go checksum database vouches for it. $GORELEASER names another
# program to run instead.
#
#   tools/release/goreleaser.sh check
#   tools/release/goreleaser.sh release --snapshot --clean
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=v2.16.0
NEUROSEAL_VERSION=$(tools/release/version.sh)
export NEUROSEAL_VERSION
# The newest goreleaser that the module's own Go builds: later ones ask for another
# Go. Should that differ once, it must not be what builds the release, so that
# goreleaser is installed and not "go run".
if [ -z "${GORELEASER:-}" ]; then
    mkdir -p bin/tools
    GOBIN=$PWD/bin/tools GOFLAGS='' GOTOOLCHAIN=auto go install "github.com/goreleaser/goreleaser/v2@$version"
    GORELEASER=bin/tools/goreleaser
fi
exec "$GORELEASER" "$@"
