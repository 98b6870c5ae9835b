#!/usr/bin/env bash
# Writes the checksums of a release's archives where the action looks for them:
# pin.sh CHECKSUMS, the release's list. To be committed after the release; the
# tag that users of the action name moves to that commit.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$("$here/version.sh")
target=$here/../action/checksums.txt
lines=$(grep -E "^[0-9a-f]{64}  neuroseal_${version//./\\.}_[a-z0-9]+_[a-z0-9]+\.(tar\.gz|zip)\$" "${1:?the list of checksums}" || true)
if [ -z "$lines" ]; then
    echo "$1: no archive of version $version" >&2
    exit 1
fi
{
    grep '^#' "$target"
    printf '%s\n' "$lines"
} >"$target.new"
mv "$target.new" "$target"
