#!/usr/bin/env bash
# Prints the version, which stands in the source, so that "go install", archives
# of the source and modules that import this one all know it. With a tag as its
# argument, demands that this is the tag of that version, on this commit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=$(sed -n 's/^const Version = "\([0-9A-Za-z.+-]*\)"$/\1/p' neuroseal.go)
[ -n "$version" ] || { echo "neuroseal.go: no line: const Version = \"…\"" >&2; exit 1; }
if [ $# -gt 0 ]; then
    if [ "$1" != "v$version" ]; then
        echo "tag $1 is not of version $version, which neuroseal.go has" >&2
        exit 1
    fi
    if ! grep -qF "## $version" CHANGELOG.md; then
        echo "CHANGELOG.md has no section: ## $version" >&2
        exit 1
    fi
    if grep -qE '^(replace|exclude)\b' go.mod; then
        echo "go.mod has replace or exclude directives: go install would refuse the module" >&2
        exit 1
    fi
fi
echo "$version"
