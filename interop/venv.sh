#!/usr/bin/env bash
# Prints the path of a Python that has the packages of requirements.txt. Where
# there is none yet, makes a virtual environment in the user's cache: a few
# minutes and about 6 GB. PYTHON names the interpreter to start from.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
say() { echo "interop: $*" >&2; }

if ! command -v "$python" >/dev/null; then
    say "no $python on this machine"
    exit 1
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
dir=${XDG_CACHE_HOME:-$HOME/.cache}/neuroseal/interop-$version
installed=$dir/requirements.txt # what is in there, once that is complete
if ! cmp -s "$here/requirements.txt" "$installed"; then
    mkdir -p "$dir"
    free=$(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1024 / 1024) }')
    if [ "$free" -lt 12 ]; then
        say "$free GB free where the packages go, 12 needed"
        exit 1
    fi
    say "installing the packages of requirements.txt: a few minutes"
    rm -f "$installed"
    "$python" -m venv "$dir" >&2
    if ! "$dir/bin/python" -m pip install --quiet --no-cache-dir -r "$here/requirements.txt" >&2; then
        say "pip could not install them"
        exit 1
    fi
    cp "$here/requirements.txt" "$installed"
fi
echo "$dir/bin/python"
