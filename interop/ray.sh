#!/usr/bin/env bash
# Installs Ray into a virtual environment of its own in the user's cache (about
# a minute and 600 MB) and prints what to export for the tests that need it:
#
#   eval "$(interop/ray.sh)" && go test -tags interop ./arena/jobs
#
# PYTHON names the interpreter to start from.
set -euo pipefail
wanted='ray[default]==2.60.*'
python=${PYTHON:-python3}
say() { echo "interop: $*" >&2; }

if ! command -v "$python" >/dev/null; then
    say "no $python on this machine"
    exit 1
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
dir=${XDG_CACHE_HOME:-$HOME/.cache}/neuroseal/ray-$version
installed=$dir/installed # what is in there, once that is complete
if [ "$(cat "$installed" 2>/dev/null)" != "$wanted" ]; then
    mkdir -p "$dir"
    free=$(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1024 / 1024) }')
    if [ "$free" -lt 2 ]; then
        say "$free GB free where Ray goes, 2 needed"
        exit 1
    fi
    say "installing $wanted: about a minute"
    rm -f "$installed"
    "$python" -m venv "$dir" >&2 || { say "$python makes no virtual environments"; exit 1; }
    if ! "$dir/bin/python" -m pip install --quiet --no-cache-dir "$wanted" >&2; then
        say "pip could not install $wanted"
        exit 1
    fi
    echo "$wanted" >"$installed"
fi
printf 'export NEUROSEAL_RAY=%q\n' "$dir/bin/ray"
