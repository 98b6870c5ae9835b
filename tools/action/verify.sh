#!/usr/bin/env bash
# Proves that the sealed model is the original, times powers of two that cancel.
set -euo pipefail
# shellcheck source=SCRIPTDIR/runner.sh
. "$(dirname "${BASH_SOURCE[0]}")/runner.sh"

scratch_dir
take_token
set -- verify --against="$INPUT_MODEL_PATH"
[ "${INPUT_VERIFY:-true}" != run ] || set -- "$@" --run
tool "$@" -- "$SEALED"
summarise 'Verification against the original' "$(cat "$scratch/result")"
