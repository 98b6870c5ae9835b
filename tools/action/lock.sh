#!/usr/bin/env bash
# Seals the model of the action's inputs, which stand in the environment, and
# says where the result is.
set -euo pipefail
# shellcheck source=SCRIPTDIR/runner.sh
. "$(dirname "${BASH_SOURCE[0]}")/runner.sh"

# absolute prints a path from the root on, as the machine's own programs write
# it, and without slashes, or dots for the folder itself, at its end.
absolute() {
    local path=$1 here=$PWD
    if command -v cygpath >/dev/null; then # bash on Windows
        here=$(cygpath -m "$PWD")
        path=${path//\\//}
    fi
    case $path in
    /* | [A-Za-z]:/*) ;;
    *) path=$here/$path ;;
    esac
    while [[ $path == ?*/ || $path == */. ]]; do
        path=${path%/.}
        while [[ $path == ?*/ ]]; do path=${path%/}; done
    done
    printf '%s.' "$path" # the dot, which the caller takes off, keeps line breaks at the end
}

model=${INPUT_MODEL_PATH:-}
dst=${INPUT_OUTPUT_PATH:-}
[ -n "$model" ] || fail 'input model_path is missing: a folder, a file or a Hugging Face id' 2
[ -n "$dst" ] || fail 'input output_path is missing: the folder for the sealed model' 2
case $dst in
.. | */.. | */../ | *\\..) fail "input output_path is \"$dst\": name the folder itself" 2 ;;
esac
# What a later step could not use is better known before hours of work.
case ${INPUT_VERIFY:-true} in
true | run | false) ;;
*) fail "input verify is \"$INPUT_VERIFY\": use true, run or false" 2 ;;
esac
case ${INPUT_PRIVATE:-false} in
true | false) ;;
*) fail "input private is \"$INPUT_PRIVATE\": use true or false" 2 ;;
esac
dst=$(absolute "$dst")
dst=${dst%.}

scratch_dir
take_token
key=${INPUT_KEY:-} sign=${INPUT_SIGN:-}
unset INPUT_KEY INPUT_SIGN
key_file=

set -- lock
[ -z "${INPUT_METHOD:-}" ] || set -- "$@" --method="$INPUT_METHOD"
[ -z "${INPUT_PROFILE:-}" ] || set -- "$@" --profile="$INPUT_PROFILE"
[ -z "${INPUT_SCALE:-}" ] || set -- "$@" --scale="$INPUT_SCALE"
if [ -n "${INPUT_RECIPIENTS:-}" ]; then
    printf '%s\n' "$INPUT_RECIPIENTS" >"$scratch/recipients"
    set -- "$@" --recipients-file="$scratch/recipients"
fi
if [ -n "$key" ]; then
    mask "$key"
    secret key "$key"
    set -- "$@" --key-file="$scratch/key"
fi
if [ -n "$sign" ]; then
    mask "$sign"
    secret sign.pem "$sign"
    set -- "$@" --sign="$scratch/sign.pem"
fi
had_key=false
[ ! -e "$dst.key" ] || had_key=true
tool "$@" -- "$model" "$dst"

if [ -d "$dst" ]; then
    manifest=$dst/neuroseal_config.json card=$dst/README.md signature=$dst/model.sig
else # a model in one file
    manifest=$dst.neuroseal.json card='' signature=$dst.sig
fi
[ -f "$manifest" ] || fail "the sealed model has no manifest at $manifest"
[ -f "$card" ] || card=
[ -n "$sign" ] || signature=
if [ -e "$dst.key" ] && [ "$had_key" = false ]; then
    key_file=$dst.key
    annotate warning "No input names a key, so lock made one: $key_file. It goes with this machine unless a later step keeps it, and then nobody can unlock the model. Never publish it. Inputs key and recipients avoid it."
fi
output sealed_path "$dst"
output manifest "$manifest"
output card "$card"
output signature "$signature"
output key_file "$key_file"

sealed=$(cat "$scratch/result")
tool inspect -- "$dst"
summarise 'Sealed by NeuroSeal' "$sealed"$'\n\n'"$(cat "$scratch/result")"
cat >>"$GITHUB_STEP_SUMMARY" <<'MARKDOWN'
**Limits.** A seal is friction, not access control. It hinders ordinary fine-tuning of the weights, as far as its profile goes. It does not hinder methods that work on activations (prompts, IA3, steering), nor anyone who re-balances the weights first, which needs no key: `neuroseal undo`.

MARKDOWN
