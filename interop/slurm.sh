#!/usr/bin/env bash
# Installs Slurm and munge from Debian's packages (as root, a few seconds) and
# prints what to export for the tests that need them:
#
#   eval "$(interop/slurm.sh)" && go test -tags interop ./arena/jobs
#
# The tests write a configuration of their own and start the daemons themselves.
set -euo pipefail
say() { echo "interop: $*" >&2; }
export PATH=$PATH:/usr/sbin:/sbin

complete() {
    for tool in slurmctld slurmd munged sbatch squeue scancel scontrol sacct; do
        command -v "$tool" >/dev/null || return 1
    done
}

if [ "$(id -u)" != 0 ]; then
    say "Slurm's daemons need root"
    exit 1
fi
if ! complete; then
    if ! command -v apt-get >/dev/null; then
        say "no apt-get here: install slurmctld, slurmd, munge and Slurm's commands by hand"
        exit 1
    fi
    say "installing slurm-wlm and munge"
    export DEBIAN_FRONTEND=noninteractive
    install=(apt-get -q install -y --no-install-recommends slurm-wlm munge)
    if ! "${install[@]}" >&2 && ! { apt-get -q update >&2 && "${install[@]}" >&2; }; then
        say "apt-get could not install slurm-wlm and munge"
        exit 1
    fi
    complete || { say "slurm-wlm does not bring all of Slurm's commands here"; exit 1; }
fi
echo "export NEUROSEAL_SLURM=1"
