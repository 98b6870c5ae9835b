#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time each (default 10s).
#
#   tools/fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
time=${1:-10s}
found=0 complete= targets=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# fuzz PACKAGE TARGET runs one target. When the time is up in the middle of an
# input, the go command sometimes reports that as a failure, without one.
fuzz() {
    if go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" "$1" </dev/null >"$log" 2>&1; then
        tail -n 1 "$log"
    elif grep -q '^ *context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log"; then
        echo "time was up in the middle of an input: no failure"
    else
        cat "$log"
        return 1
    fi
}

# "go test -list" prints the targets of a package, then a line that names it.
while read -r word package _; do
    case $word in
    Fuzz*) targets+=("$word") ;;
    complete) complete=1 ;;
    ok)
        for target in "${targets[@]}"; do
            echo "-- $package $target"
            fuzz "$package" "$target"
            found=$((found + 1))
        done
        targets=()
        ;;
    esac
done < <(go test -list '^Fuzz' ./... && echo complete)
[ -n "$complete" ] || { echo "listing the fuzz targets failed" >&2; exit 1; }
[ "$found" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }
echo "$found fuzz targets, $time each"
