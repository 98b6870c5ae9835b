#!/usr/bin/env bash
# Proves that "go install MODULE/cmd/neuroseal@VERSION" works for the commit that is
# checked out, and tells the truth about its version: serves the commit as a
# module, from a folder, to a Go with an empty module cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
module=$(go list -m)
version=v$(tools/release/version.sh)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

served=$scratch/proxy/$module/@v
mkdir -p "$served"
printf '%s\n' "$version" >"$served/list"
printf '{"Version":"%s","Time":"%s"}\n' "$version" "$(TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)" >"$served/$version.info"
git show HEAD:go.mod >"$served/$version.mod"
# Folders with a go.mod of their own are other modules.
set -- .
while read -r nested; do set -- "$@" ":(exclude)${nested%/go.mod}"; done < <(git ls-files '*/go.mod')
git archive --format=zip --prefix="$module@$version/" -o "$served/$version.zip" HEAD -- "$@"

go mod download # what else is needed then comes from this module cache
downloaded=$(go env GOMODCACHE)/cache/download
(
    cd "$scratch"
    export GOPROXY="file://$scratch/proxy,file://$downloaded,off" GOSUMDB=off GOFLAGS=-modcacherw
    export GOMODCACHE=$scratch/mod GOBIN=$scratch/bin CGO_ENABLED=0
    go install "$module/cmd/neuroseal@$version"
)
"$scratch/bin/neuroseal" version
got=$("$scratch/bin/neuroseal" version --json | sed -n 's/.*"module": *"\([^"]*\)".*/\1/p')
if [ "$got" != "$version" ] || [ "$("$scratch/bin/neuroseal" version --quiet)" != "${version#v}" ]; then
    echo "installed as $version, but it says $got" >&2
    exit 1
fi
