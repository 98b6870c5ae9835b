#!/usr/bin/env bash
# Runs quantised checkpoints and their seals in every runtime that is there, and
# writes the tables of docs/runtimes.md. What requirements-quant.txt names must be
# importable for all rows of the first and third; NEUROSEAL_LLAMA_PYTHON names an
# interpreter with llama-cpp-python, which takes a quarter of an hour to build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export NEUROSEAL_PYTHON=${NEUROSEAL_PYTHON:-$(interop/venv.sh)}
export RUNTIMES_REPORT=${RUNTIMES_REPORT:-$PWD/docs/runtimes.md}
exec go test -tags interop -count=1 -timeout 90m -run '^(TestQuantisedRuntimes|TestQuantReaders|TestGGUFRuntimes|TestLlamaCpp)$' ./interop "$@"
