#!/usr/bin/env bash
# submit.sh SHARDS CONFIG OUT [OPTION...]: a sweep as an array of SHARDS Slurm tasks, and its merge,
# which waits for all of them. Run it in the folder that the config's paths of archives start from; OUT
# must be on a file system that all nodes see. Each OPTION goes to every kvr sweep: --set repetitions=5.
# What sbatch needs (partition, time, CPUs) comes from SBATCH_PARTITION and its like, or from
# KVR_SBATCH, which may hold several options.
#
#   scripts/slurm/submit.sh 16 configs/paper.json results/paper/16-shards
#   KVR_SBATCH='--partition=cpu --time=4:00:00 --cpus-per-task=8' scripts/slurm/submit.sh 16 ...
#
# Sent a second time it goes on with what is there and runs only what is missing. Prints the jobs'
# numbers.
set -euo pipefail

if (($# < 3)) || ! [[ $1 =~ ^[1-9][0-9]{0,5}$ ]]; then
  echo "usage: submit.sh SHARDS CONFIG OUT [OPTION of kvr sweep...]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
shards=$1 config=$2 out=$3
shift 3
export KVR=${KVR:-$here/../../build/release/kvr}
[[ -x $KVR ]] || { echo "submit.sh: no program at $KVR; set KVR" >&2; exit 3; }
[[ ! -e $out/all ]] || { echo "submit.sh: $out/all is there already" >&2; exit 2; }
# A mistake in the config is told here and not by every task.
"$KVR" sweep "$config" "$@" --shard "0/$shards" --dry-run --no-estimate >/dev/null
mkdir -p "$out/logs"
read -ra own <<<"${KVR_SBATCH:-}"

array=$(sbatch --parsable --array="0-$((shards - 1))" --output="$out/logs/%a.log" --open-mode=append \
  ${own[@]+"${own[@]}"} "$here/shard.sbatch" "$shards" "$config" "$out" "$@")
array=${array%%;*} # "number;cluster" where there are several
merge=$(sbatch --parsable --dependency="afterok:$array" --kill-on-invalid-dep=yes \
  --output="$out/logs/merge.log" ${own[@]+"${own[@]}"} "$here/merge.sbatch" "$shards" "$out")
echo "shards: job $array; merge into $out/all: job ${merge%%;*}"
