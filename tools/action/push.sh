#!/usr/bin/env bash
# Publishes the sealed model on the Hugging Face hub.
set -euo pipefail
# shellcheck source=SCRIPTDIR/runner.sh
. "$(dirname "${BASH_SOURCE[0]}")/runner.sh"

scratch_dir
take_token
set -- push
[ "${INPUT_PRIVATE:-false}" != true ] || set -- "$@" --private
tool "$@" -- "$SEALED" "$INPUT_PUSH"
summarise 'Published' "$(cat "$scratch/result")"
