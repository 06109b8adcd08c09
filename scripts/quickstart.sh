#!/usr/bin/env bash
# From a fresh Debian 12 or Ubuntu 24.04 to the paper's sweep and its report.
set -Eeuo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/quickstart.sh [SWEEP OPTION...]

Installs what is missing, builds kvr, fetches and exports the two default models, runs the paper's
sweep, prints its findings and writes a page with figures into the run's folder. A second run goes
straight to the sweep. SWEEP OPTIONs go to `kvr sweep configs/paper.json`; `build/release/kvr sweep
--help` lists them.

Needs: Python 3.11 or newer and a C++20 compiler, or the right to install them (root or sudo);
about 3 GB of disk; a package index that pip can reach. No root when every package is there.

examples:
  scripts/quickstart.sh
  scripts/quickstart.sh --set repetitions=1
  KVR_TORCH_INDEX=https://HOST/whl/cpu scripts/quickstart.sh

environment:
  KVR_TORCH_INDEX   package index to take torch from, before the rest comes from pip's own. Where
                    pip would fetch torch's CUDA build (several GB: Linux on x86-64 with no other
                    index configured), name PyTorch's index of CPU wheels; the address is on its
                    installation page, under Pip and CPU
  KVR_PYTHON        the Python that makes .venv (default: python3)
  KVR_JOBS          compilers at a time (default: by cores and free memory)
  PIP_*, *_proxy    as pip and apt read them

exit codes: kvr's own for the sweep and the report; 4 when a step before them fails;
130 when interrupted
TEXT
}

case ${1:-} in
  -h | --help)
    usage
    exit 0
    ;;
esac

# shellcheck source=scripts/setup.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

setup_packages "${BUILD_PACKAGES[@]}"
setup_venv
setup_build release kvr kvr_ops
setup_models
step_failure_status=""
step "running the paper's sweep" "see kvr's message above; docs/ explains configs and exit codes"
folder=$(build/release/kvr sweep configs/paper.json "$@")
if [[ ! -d $folder ]]; then # --dry-run and --help print something else
  printf '%s\n' "$folder"
  exit 0
fi
step "reporting" "see kvr's message above"
build/release/kvr report "$folder" --html "$folder/report.html"
