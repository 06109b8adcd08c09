#!/usr/bin/env bash
# layers.sh COMPILER TESTS LAYER=FOLDER:FOLDER...: an include of a header of each layer from each
# layer compiles downward and fails upward and sideways. Prints the graph that it found.
set -euo pipefail
compiler=$1 tests=$2
shift 2

# What each layer may use (docs/architecture.md), written apart from the build's own lists.
declare -A may=(
  [base]="" [text]="base" [cache]="base" [model]="base"
  [engine]="base text cache model"
  [record]="base" [report]="base record"
  [experiment]="base text cache model engine record"
  [cli]="base text cache model engine experiment record report"
)
status=0
if (($# != ${#may[@]})); then
  echo "found $# layers, expected ${!may[*]}"
  status=1
fi
for one in "$@"; do
  layer=${one%%=*}
  found=""
  flags=()
  while IFS= read -r -d : folder; do
    [[ $folder == */layers/* ]] && flags+=(-I "$folder")
  done <<<"${one#*=}:"
  for other in "$@"; do
    other=${other%%=*}
    header=$(find "$(dirname "$0")/../include/kvr/$other" -name '*.h' -printf '%f\n' | sort | head -1)
    if echo "#if !__has_include(\"kvr/$other/$header\")
#error absent
#endif" | "$compiler" -x c++ -std=c++20 -fsyntax-only "${flags[@]}" - 2>/dev/null; then
      [[ $other != "$layer" ]] && found+="$other "
    fi
  done
  wanted=$(tr ' ' '\n' <<<"${may[$layer]-unknown}" | sort | xargs)
  found=$(tr ' ' '\n' <<<"$found" | sort | xargs)
  echo "$layer: $found"
  if [[ $found != "$wanted" ]]; then
    echo "  but may use: $wanted"
    status=1
  fi
done

for layer in base text cache record report; do
  program=$tests/kvr_${layer}_tests
  if readelf -d "$program" | grep -q torch; then
    echo "$program links libtorch"
    status=1
  fi
done

# Of two libraries with a FLAGS_minloglevel the one with the larger must come first
# (src/engine/CMakeLists.txt).
for program in "$tests"/../kvr "$tests"/kvr_*_tests; do
  first=$(readelf -d "$program" | grep -m1 -o 'libsentencepiece\|libc10\|libtorch_cpu' || true)
  if [[ $first == lib[ct]* ]] && readelf -d "$program" | grep -q libsentencepiece; then
    echo "$program links libtorch before libsentencepiece"
    status=1
  fi
done
exit "$status"
