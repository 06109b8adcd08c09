#!/usr/bin/env bash
# Everything up to a built tree with exported models. quickstart.sh and test.sh source this file;
# called itself, it runs the steps named, or all:
#
#   scripts/setup.sh [packages] [dev-packages] [venv] [build] [models]
#
# Each step says what it does and for how long the script has run; each is skipped, at once, when
# its work is done. A step that fails is named together with its remedy. scripts/quickstart.sh
# --help lists the environment variables.
# shellcheck disable=SC2310  # functions called in conditions do their own error checks
set -Eeuo pipefail

KVR_ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$KVR_ROOT"
readonly KVR_ROOT

# Package and how to see that what it brings is there already: a command, or a pkg-config module.
readonly BUILD_PACKAGES=(
  "g++ command:${CXX:-c++}"
  "cmake cmake:3.25"
  "ninja-build command:ninja"
  "git command:git"
  "pkg-config command:pkg-config"
  "python3-venv python:3.11"
  "libsentencepiece-dev module:sentencepiece"
  "nlohmann-json3-dev module:nlohmann_json"
  "libcli11-dev module:CLI11"
  "libspdlog-dev module:spdlog"
  "libgtest-dev module:gtest"
  "libsqlite3-dev module:sqlite3"
  "libpcre2-dev module:libpcre2-8"
  "libutf8proc-dev module:libutf8proc"
  "libxxhash-dev module:libxxhash"
  "libssl-dev module:libcrypto"
)
# clang-format by version: another one formats otherwise.
readonly DEV_PACKAGES=(
  "clang-format-14 command:clang-format-14"
  "clang-tidy command:run-clang-tidy"
  "gcovr command:gcovr"
)

# Steps, messages and the way out.

current_step="starting"
current_remedy=""

say() { printf '[%3d s] %s\n' "$SECONDS" "$1" >&2; }

# step WHAT [REMEDY]: announces what comes next, and what to do should it fail.
step() {
  current_step=$1
  current_remedy=${2:-}
  say "$1"
}

# die MESSAGE [STATUS]
die() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  current_remedy=""
  exit "${2:-4}"
}

# A failed step's exit status, whatever the tool behind it said; empty to pass the tool's own on.
step_failure_status=4

on_exit() {
  local status=$?
  case $status in
    0) ;;
    2 | 143) say "ended (exit $status) while $current_step" ;;
    130) say "interrupted while $current_step; run it again to go on from there" ;;
    *)
      status=${step_failure_status:-$status}
      say "failed (exit $status) while $current_step"
      if [[ -n $current_remedy ]]; then say "what to do: $current_remedy"; fi
      ;;
  esac
  exit "$status"
}
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Compilers at a time: one per core, and 1.5 GB for each, which a file that reads libtorch's
# headers takes at its peak.
jobs_at_once() {
  local cores by_memory
  if [[ -n ${KVR_JOBS:-} ]]; then
    echo "$KVR_JOBS"
    return
  fi
  cores=$(nproc)
  by_memory=$(awk '/^MemAvailable:/ { print int($2 / 1572864) }' /proc/meminfo)
  if ((by_memory < 1)); then by_memory=1; fi
  echo $((cores < by_memory ? cores : by_memory))
}

# Packages.

# The first Python that is new enough and can make a virtual environment.
find_python() {
  local candidate
  for candidate in "${KVR_PYTHON:-python3}" python3.11 python3.12 python3.13; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
      2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

# present PACKAGE CHECK: whether the package, or what it would bring, is installed.
present() {
  local package=$1 kind=${2%%:*} what=${2#*:} version
  case $kind in
    command) command -v -- "${what%% *}" >/dev/null ;;
    python) find_python >/dev/null ;;
    cmake)
      version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p') &&
        [[ -n $version ]] && printf '%s\n%s\n' "$what" "$version" | sort -CV
      ;;
    module)
      pkg-config --exists "$what" 2>/dev/null ||
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]]
      ;;
  esac
}

# Prints the packages of the list that are missing.
missing_of() {
  local line
  for line in "$@"; do
    # shellcheck disable=SC2086  # two words: package and check
    present $line || printf '%s\n' "${line%% *}"
  done
}

# setup_packages LIST...: installs what is missing. Needs no root when nothing is.
setup_packages() {
  local as_root=() missing
  mapfile -t missing < <(missing_of "$@")
  if ((${#missing[@]} == 0)); then
    say "Debian packages: all there"
    return
  fi
  step "installing ${#missing[@]} Debian packages: ${missing[*]}" \
    "see apt's message above; then run this again"
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends)
  if ! command -v apt-get >/dev/null; then
    die "no apt-get here: install by hand what these Debian packages bring: ${missing[*]}"
  fi
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      die "not root, and no sudo. As root: apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update
  "${as_root[@]}" "${install[@]}" "${missing[@]}"
  mapfile -t missing < <(missing_of "$@")
  if ((${#missing[@]} > 0)); then
    die "installed, yet still missing or too old: ${missing[*]} \
(needed: Python 3.11 with venv, CMake 3.25, a C++20 compiler; Debian 12 and Ubuntu 24.04 have them)"
  fi
}

# The virtual environment: libtorch, and Python for the exporter.

torch_cmake_folder() { compgen -G '.venv/lib/python3*/site-packages/torch/share/cmake/Torch'; }

setup_venv() {
  local stamp=.venv/.requirements.sha256 wanted python
  wanted=$(sha256sum <requirements.txt)
  if [[ -x .venv/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]] &&
    torch_cmake_folder >/dev/null; then
    say "Python packages: as requirements.txt says"
    return
  fi
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python) || die "no Python 3.11 or newer with venv: run scripts/setup.sh packages"
    step "making the virtual environment .venv with $python" "delete .venv and run this again"
    "$python" -m venv --clear .venv
  fi
  local install=(.venv/bin/python -m pip install --disable-pip-version-check --no-input)
  local remedy="see pip's message above; check the network and pip's index settings, run it again"
  if [[ -n ${KVR_TORCH_INDEX:-} ]]; then
    step "installing libtorch from KVR_TORCH_INDEX" "$remedy"
    "${install[@]}" --index-url "$KVR_TORCH_INDEX" "$(grep '^torch==' requirements.txt)"
  fi
  step "installing the Python packages of requirements.txt (libtorch is 0.2 GB, CUDA builds 3 GB)" \
    "$remedy"
  "${install[@]}" -r requirements.txt
  step "checking libtorch" "delete .venv and run this again"
  .venv/bin/python - "$(sed -n 's/^torch==//p' requirements.txt)" <<'PYTHON'
import pathlib, sys, torch

expected, found = sys.argv[1], torch.__version__
config = pathlib.Path(torch.utils.cmake_prefix_path, "Torch", "TorchConfig.cmake")
if found.split("+")[0] != expected:
    sys.exit(f"torch is {found}, expected {expected}")
if not config.is_file():
    sys.exit(f"{config} is missing: not a wheel with libtorch's CMake package")
print(f"        torch {found}", f"with CUDA {torch.version.cuda}; the CPU build would do"
      if torch.version.cuda else "for the CPU", file=sys.stderr)
PYTHON
  printf '%s\n' "$wanted" >"$stamp"
}

# setup_build PRESET [TARGET...]: configures and builds into build/PRESET: all, or what is named.
setup_build() {
  local preset=$1 jobs targets=()
  if (($# > 1)); then targets=(--target "${@:2}"); fi
  jobs=$(jobs_at_once)
  step "building, preset $preset, $jobs at a time" \
    "see the message above. If CMake asks for CUDA: delete .venv and name an index of CPU wheels in \
KVR_TORCH_INDEX (see quickstart.sh --help). If memory ran out: KVR_JOBS=1. After an upgrade of \
compiler or libtorch: delete build/$preset"
  # Always configured: the commit that runs record is read then. It takes a second or two.
  quietly cmake --preset "$preset" && cmake --build --preset "$preset" --parallel "$jobs" "${targets[@]}" >&2
}

# Runs a command whose output matters only when it fails.
quietly() {
  local output
  if ! output=$("$@" 2>&1); then
    printf '%s\n' "$output" >&2
    return 1
  fi
}

# Models.

# export_model NAME SOURCE [OPTION...]: models/NAME.pt, unless this exporter made it from these
# files.
export_model() {
  local name=$1 source=$2 archive=models/$1.pt stamp=models/$1.pt.stamp wanted
  wanted=$(cat requirements.txt scripts/export_model.py scripts/kvr_export/{,*/}*.py \
    src/model/kernels/* "models/sources/$name/SHA256SUMS" - <<<"${*:2}" | sha256sum)
  if [[ -f $archive && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    say "$archive: up to date"
    return
  fi
  step "exporting $archive and comparing it with the reference (a minute or two)" \
    "see the exporter's message above; delete models/sources/$name if its files are in doubt"
  rm -f -- "$stamp"
  .venv/bin/python scripts/export_model.py "$source" --out "$archive" "${@:3}" >&2
  printf '%s\n' "$wanted" >"$stamp"
}

setup_models() {
  step "fetching the default models (0.2 GB)" "see the message above; then run this again"
  .venv/bin/python scripts/get_models.py smollm2 minilm
  export_model smollm2 models/sources/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --precision source
  export_model minilm models/sources/minilm --name all-MiniLM-L6-v2
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  if (($# == 0)); then set -- packages venv build models; fi
  for name in "$@"; do
    case $name in
      packages) setup_packages "${BUILD_PACKAGES[@]}" ;;
      dev-packages) setup_packages "${DEV_PACKAGES[@]}" ;;
      venv) setup_venv ;;
      build) setup_build release ;;
      models) setup_models ;;
      -h | --help)
        sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        trap - EXIT
        exit 0
        ;;
      *)
        say "no such step: $name; see scripts/setup.sh --help"
        trap - EXIT
        exit 2
        ;;
    esac
  done
  say "set up: $*"
fi
