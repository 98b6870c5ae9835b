#!/usr/bin/env bash
# Fetches the released binary of this checkout's version, if its checksum stands
# in checksums.txt beside this script. Says where the binary is; if it says
# nothing, it has to be built. What does not have its checksum is never run, and
# ends the step.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=SCRIPTDIR/runner.sh
. "$here/runner.sh"
root=$here/../..
# A mirror will do: what it serves must have the same checksum.
releases=${NEUROSEAL_RELEASES:-https://github.com/neuroseal/neuroseal/releases/download}

# has_go reports whether a Go that can build this module is at hand.
has_go() {
    local have want
    have=$(cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
    want=$(sed -n 's/^go 1\.\([0-9]*\).*/\1/p' "$root/go.mod")
    have=${have#go1.}
    have=${have%%[!0-9]*}
    [ -n "$have" ] && [ "$have" -ge "$want" ]
}

# build leaves it to the next steps.
build() {
    echo "The binary is built from this checkout: $1."
    if has_go; then output go true; fi
    exit 0
}

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d ' ' -f 1
}

version=$(sed -n 's/^const Version = "\([0-9A-Za-z.+-]*\)"$/\1/p' "$root/neuroseal.go")
[ -n "$version" ] || fail "no version in $root/neuroseal.go"
program=neuroseal kind=tar.gz
case $(uname -s) in
Linux) os=linux ;;
Darwin) os=darwin ;;
MINGW* | MSYS* | CYGWIN*) os=windows program=neuroseal.exe kind=zip ;;
*) build "nothing is released for $(uname -s)" ;;
esac
case $(uname -m) in
x86_64 | amd64) arch=amd64 ;;
aarch64 | arm64) arch=arm64 ;;
*) build "nothing is released for $(uname -m)" ;;
esac
archive=neuroseal_${version}_${os}_${arch}.$kind
want=$(awk -v name="$archive" '$2 == name { print $1 }' "$here/checksums.txt")
[ -n "$want" ] || build "$archive has no checksum here yet"

dir=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/neuroseal-bin.XXXXXX")
if ! curl -fsSL --proto '=https,http' --retry 3 --max-time 300 -o "$dir/$archive" -- "$releases/v$version/$archive"; then
    build "$archive could not be fetched"
fi
got=$(sha256 "$dir/$archive")
[ "$got" = "$want" ] || fail "$archive has SHA-256 $got, not $want: it is not what was released, and was not run"
case $kind in
zip) unzip -q "$dir/$archive" "$program" -d "$dir" ;;
*) tar -xzf "$dir/$archive" -C "$dir" "$program" ;;
esac
rm -f "$dir/$archive"
echo "$archive: SHA-256 $got, as recorded."
output path "$dir/$program"
