#!/usr/bin/env bash
# Sets up as quickstart.sh does, then runs every check; ctest comes last, and behind its summary
# only what the checks before it found. One that fails doesn't stop the others; the exit status tells.
#
#   scripts/test.sh                      all: about 30 minutes on two cores, from nothing
#   KVR_TEST_QUICK=1 scripts/test.sh     without sanitizers, coverage and clang-tidy
#   scripts/test.sh -R Tokenizer         further arguments go to the last ctest
#
# exit codes: 0 all passed; 1 a check or test failed; 4 set-up failed; 130 interrupted
# shellcheck disable=SC2310,SC2329  # `check` calls the checks below, which end at first failure
set -Eeuo pipefail

case ${1:-} in
  -h | --help)
    sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

# shellcheck source=scripts/setup.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

readonly SANITIZER_PRESET=asan-ubsan
readonly LINE_COVERAGE_FLOOR=75 # per cent of src/, unit tests only

failed=()

# check NAME REMEDY COMMAND...: runs one check, and notes its failure, with the end of what it said.
check() {
  local name=$1 remedy=$2 log
  log=$(mktemp)
  step "$name" "$remedy"
  if ! "${@:3}" 2>&1 | tee "$log" >&2; then
    say "FAILED: $name. What to do: $remedy"
    failed+=("FAILED: $name. What to do: $remedy. Its last lines:
$(tail -n 30 "$log")")
  fi
  rm -f -- "$log"
}

check_format() {
  find include src tests '(' -name '*.h' -o -name '*.cc' -o -name '*.inc' ')' -print0 |
    xargs -0 clang-format-14 --dry-run --Werror
}

check_prompts() {
  quietly .venv/bin/python scripts/check_prompts.py configs/prompts/paper_{cache,test}.jsonl \
    --tokenizer smollm2=models/sources/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --block 128
}

# Everything but times, which are the machine's: valid on any.
check_against_the_kept_run() {
  build/release/kvr check configs/smoke.json --against configs/smoke.baseline.json --exact-only
}

# The unit tests of build/PRESET, as a few processes for each layer and not one for each test: under
# a sanitizer libtorch takes a second to start. The simulated runs of the report are left to the plain
# build: they take many minutes here, and call nothing that the other tests don't.
# Threads that wait don't spin, being more than cores. Runs in a shell of its own: what it exports
# is for these processes alone, and googletest refuses to list tests with half of it.
unit_tests() (
  folder=build/$1 shards=4
  rm -f "$folder"/tests/*.failed
  ctest --test-dir "$folder" --output-on-failure --no-tests=error -R '^make_tiny_models$' || return 1
  export OMP_WAIT_POLICY=passive GTEST_FILTER='-*Simulation.*' GTEST_TOTAL_SHARDS=$shards GTEST_BRIEF=1
  for program in "$folder"/tests/kvr_*_tests; do
    for ((shard = 0; shard < shards; ++shard)); do echo "$program" "$shard"; done
  done | xargs -P "$(jobs_at_once)" -L 1 bash -c \
    'GTEST_SHARD_INDEX=$1 "$0" >"$0-$1.log" 2>&1; status=$?; cat "$0-$1.log"
     if ((status)); then mv "$0-$1.log" "$0-$1.failed"; fi; exit "$status"' || {
    # Again, so that they end what is said.
    tail -n 12 "$folder"/tests/*.failed
    return 1
  }
)

check_sanitizers() (
  # libtorch isn't instrumented: what crosses into it can't be checked for container overflow.
  export ASAN_OPTIONS=detect_container_overflow=0:strict_string_checks=1
  export UBSAN_OPTIONS=print_stacktrace=1
  find "build/$SANITIZER_PRESET" -name '*.gcda' -delete 2>/dev/null || true
  setup_build "$SANITIZER_PRESET" && unit_tests "$SANITIZER_PRESET"
)

check_coverage() {
  gcovr --root . --filter src/ --object-directory "build/$SANITIZER_PRESET" \
    --exclude-throw-branches --gcov-ignore-parse-errors --print-summary --fail-under-line "$LINE_COVERAGE_FLOOR"
}

check_tidy() {
  # Configured apart: clang can't read the precompiled headers that GCC writes.
  # As few files of many for one reading of their headers.
  quietly cmake --preset release -B build/tidy -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON \
    -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=12 &&
    run-clang-tidy -quiet -p build/tidy -j "$(jobs_at_once)" -checks=-bugprone-suspicious-include \
      -header-filter="$KVR_ROOT/src/.*[.]cc\$" -extra-arg=-Wno-unknown-warning-option \
      "$KVR_ROOT/(build/tidy/)?src/.*"
}

setup_packages "${BUILD_PACKAGES[@]}" "${DEV_PACKAGES[@]}"
setup_venv
check "checking the format" "clang-format-14 -i the files named above" check_format
setup_build release
setup_models
check "checking the prompts" "keep the promises of the groups named above" check_prompts
check "comparing a sweep with the kept one" \
  "mend what got worse; or, where it is meant: kvr sweep, then kvr baseline --force" \
  check_against_the_kept_run
if [[ ${KVR_TEST_QUICK:-0} == 1 ]]; then
  say "KVR_TEST_QUICK=1: SKIPPED: sanitizers, coverage, clang-tidy"
else
  check "testing under $SANITIZER_PRESET" "run the test named above from build/$SANITIZER_PRESET" \
    check_sanitizers
  check "measuring coverage" "test what gcovr lists above (floor: $LINE_COVERAGE_FLOOR %)" \
    check_coverage
  check "running clang-tidy" "mend what it names above, or say why with NOLINT" check_tidy
fi

step "running all tests" ""
status=0
ctest --preset release --no-tests=error -j "$(jobs_at_once)" "$@" || status=1
trap - EXIT # ctest's summary stays the last word, unless a check failed
if ((${#failed[@]} > 0)); then
  say "these checks failed before the tests:"
  printf '%s\n' "${failed[@]}" >&2
  status=1
fi
exit "$status"
