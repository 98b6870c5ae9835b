# shellcheck shell=bash
# What the action's scripts say to the runner: workflow commands, outputs, the
# summary. To be sourced. Everything here also runs in the bash 3.2 of macOS.

# nonce prints a word that no input can hold, because nobody can guess it.
nonce() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# escaped prints a text so that it is one argument of a workflow command,
# whatever lines it has.
escaped() {
    local text=${1//\%/%25} cr=$'\r' lf=$'\n'
    text=${text//$cr/%0D}
    text=${text//$lf/%0A}
    printf '%s' "$text"
}

# annotate shows a text on the run's page: annotate error|warning|notice TEXT.
annotate() { printf '::%s title=NeuroSeal::%s\n' "$1" "$(escaped "$2")"; }

# fail ends the step with a message: fail TEXT [EXIT STATUS].
fail() {
    annotate error "$1"
    summarise "NeuroSeal failed" "$1"
    exit "${2:-1}"
}

# mask keeps every line of a secret out of the log. Comments and the armour
# of PEM files are no secrets, and would blank half the log.
mask() {
    local line
    printf '%s\n' "$1" | while IFS= read -r line; do
        line=${line%$'\r'}
        case $line in
        '' | '#'* | '-----'*) ;;
        *) printf '::add-mask::%s\n' "$(escaped "$line")" ;;
        esac
    done
}

# output sets an output of the step: output NAME VALUE. The value may have
# lines; it cannot end itself, since it does not know the delimiter.
output() {
    local end
    end=$(nonce)
    printf '%s<<%s\n%s\n%s\n' "$1" "$end" "$2" "$end" >>"$GITHUB_OUTPUT"
}

# summarise appends a section to the run's summary: summarise TITLE TEXT. The
# text may come from a model's files, so it stands in a fence that it does not
# hold itself.
summarise() {
    local fence='```'
    while [[ $2 == *"$fence"* ]]; do fence+='`'; done
    # shellcheck disable=SC2016 # no expansion is meant
    printf '### %s\n\n%stext\n%s\n%s\n\n' "$1" "$fence" "$2" "$fence" >>"$GITHUB_STEP_SUMMARY"
}

# scratch_dir makes a folder that only this user can read, and that goes with the
# script; it sets $scratch. It lies outside the workspace, so that nothing of it
# can end up in an artifact.
scratch_dir() {
    scratch=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/neuroseal.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
}

# secret writes a secret to a new file in $scratch: secret NAME VALUE.
secret() {
    (umask 077 && printf '%s\n' "$2" >"$scratch/$1")
}

# take_token hands the hub's token over in the environment, where other users
# cannot see it. Without the input, the job's own HF_TOKEN counts.
take_token() {
    local token=${INPUT_TOKEN:-}
    unset INPUT_TOKEN
    [ -z "$token" ] && return
    mask "$token"
    case $token in
    *$'\n'* | *$'\r'* | *' '*) fail "input token has spaces or line breaks: give the token alone" 2 ;;
    esac
    export HF_TOKEN=$token
}

# tool runs neuroseal: tool ARGUMENT…. Its messages go to the log while it runs,
# its result follows, and stands in $scratch/result. Between the two marks the
# runner obeys no command, so that no file of a model can give it one.
tool() {
    local stop status=0
    stop=$(nonce)
    printf '::stop-commands::%s\n' "$stop"
    "$NEUROSEAL" "$@" 2>&1 >"$scratch/result" | tee "$scratch/messages" || status=${PIPESTATUS[0]}
    cat "$scratch/result"
    printf '\n::%s::\n' "$stop"
    [ "$status" -eq 0 ] && return
    local said
    said=$(sed -n -e 's/^neuroseal: error: //p' -e 's/^neuroseal: hint: /hint: /p' "$scratch/messages")
    fail "${said:-neuroseal $1 ended with exit status $status}" "$status"
}
