#!/usr/bin/env bash
# beside_busy_loops.sh COUNT COMMAND...: runs the command beside that many processes which do
# nothing but compute, and exits as it does.
set -euo pipefail

loops=()
trap 'kill "${loops[@]}"' EXIT
for ((i = 0; i < $1; ++i)); do
  while :; do :; done &
  loops+=($!)
done
"${@:2}"
