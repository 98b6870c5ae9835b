#!/usr/bin/env bash
# Prints the section of CHANGELOG.md about this version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=$(tools/release/version.sh)
awk -v title="## $version" '
    /^## / { here = (index($0, title) == 1 && substr($0, length(title) + 1) !~ /^[0-9A-Za-z.+-]/); next }
    here' CHANGELOG.md
