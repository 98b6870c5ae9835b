#!/usr/bin/env bash
# Builds the binary from this checkout, as a release is built.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=SCRIPTDIR/runner.sh
. "$here/runner.sh"

# The job's own settings for Go are meant for other modules.
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off GOOS='' GOARCH=''
dir=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/neuroseal-bin.XXXXXX")
program=$dir/neuroseal$(go env GOEXE)
cd "$here/../.."
go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$program" ./cmd/neuroseal
"$program" version
output path "$program"
