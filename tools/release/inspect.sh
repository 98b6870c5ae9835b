#!/usr/bin/env bash
# Looks at a release that goreleaser has written, as somebody would who downloads
# it: inspect.sh DIST. Every checksum, every archive's content, and the program
# for this machine, which is run.
set -euo pipefail
dist=$(cd "${1:?the folder that goreleaser has written}" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
want=$("$root/tools/release/version.sh")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

die() { echo "$dist: $*" >&2; exit 1; }
digest() { if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d ' ' -f 1; }

while read -r sum name; do
    [ "$(digest "$dist/$name")" = "$sum" ] || die "$name does not have its checksum"
done <"$dist/checksums.txt"

here=$(go env GOOS)_$(go env GOARCH)
ran=no
for platform in {linux,darwin,windows}_{amd64,arm64}; do
    case $platform in
    windows_*) kind=zip program=neuroseal.exe ;;
    *) kind=tar.gz program=neuroseal ;;
    esac
    set -- "$dist"/neuroseal_"$want"*_"$platform.$kind"
    [ $# = 1 ] && [ -f "$1" ] || die "no single archive for $platform"
    grep -q "  ${1##*/}\$" "$dist/checksums.txt" || die "${1##*/} has no checksum"
    [ -s "${1%".$kind"}.cdx.json" ] || die "no bill of materials for $platform"
    grep -q '"name": "filippo.io/age"' "${1%".$kind"}.cdx.json" || die "the bill of materials for $platform lacks the modules"
    to=$scratch/$platform
    mkdir "$to"
    case $kind in
    zip) unzip -q "$1" -d "$to" ;;
    *) tar -xzf "$1" -C "$to" ;;
    esac
    for file in "$program" LICENSE THIRD_PARTY_NOTICES.txt README.md CHANGELOG.md completions/neuroseal.bash completions/_neuroseal \
        completions/neuroseal.fish completions/neuroseal.ps1 man/neuroseal.1 man/neuroseal-lock.1 man/neuroseal-key-add.1; do
        [ -s "$to/$file" ] || die "${1##*/} lacks $file"
    done
    [ -x "$to/$program" ] || die "${1##*/}: $program is not executable"
    (cd "$root" && go run ./tools/notices -check "$to/THIRD_PARTY_NOTICES.txt" "$to/$program") || die "${1##*/}: notices are missing"
    built=$(go version -m "$to/$program")
    [[ $built == *CGO_ENABLED=0* ]] || die "${1##*/}: built with cgo"
    [[ $built == *vcs.modified=false* ]] || die "${1##*/}: not built from a commit alone"
    [ "$platform" = "$here" ] || continue
    got=$("$to/$program" version --quiet)
    [ "$got" = "$want" ] || die "the program says that it is version $got, not $want"
    "$to/$program" version
    # What the archive has of completions and pages is what the program writes.
    "$to/$program" completion bash | cmp - "$to/completions/neuroseal.bash"
    SOURCE_DATE_EPOCH=0 "$to/$program" man "$scratch/man" >/dev/null
    [ "$(ls "$scratch/man")" = "$(ls "$to/man")" ] || die "the archive's manual pages are not the program's"
    ran=yes
done
set -- "$dist"/neuroseal-"$want"*.tar.gz
sources=$(tar -tzf "$1")
[[ $sources == */cmd/neuroseal/main.go* ]] || die "the source archive lacks the command"
echo "$dist: six platforms, $(wc -l <"$dist/checksums.txt") checksums; ran here: $ran"
