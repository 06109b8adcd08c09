#!/usr/bin/env bash
# on_slurm.sh KVR: a sweep of four shards through scripts/slurm on a real Slurm, which this machine is
# for the while, controller and node; the merged run must have the cells of a run in one go. A task is
# killed in the middle and sent again. Skipped aloud (exit 77) where slurm-wlm or the models are missing,
# or who runs it isn't root.
set -euo pipefail
cd "$(dirname "$0")/.."
kvr=$(realpath "$1")
config=configs/smoke.json shards=4
# Enough cells that a shard has some left when it is killed: one takes a fraction of a second.
options=(--set repetitions=2)

for program in munged slurmctld slurmd sbatch; do
  if ! command -v "$program" >/dev/null; then
    echo "SKIPPED: no $program; apt-get install slurm-wlm munge"
    exit 77
  fi
done
if ((EUID != 0)); then
  echo "SKIPPED: slurmd must be started by root"
  exit 77
fi
if [[ ! -e models/smollm2.pt || ! -e models/minilm.pt ]]; then
  echo "SKIPPED: models/smollm2.pt or models/minilm.pt is missing; scripts/setup.sh makes them"
  exit 77
fi

folder=$(mktemp -d) daemons=()
finish() {
  local status=$?
  if ((status != 0)); then tail -n 30 "$folder"/*.log "$folder"/out/logs/* 2>/dev/null || true; fi
  for ((i = ${#daemons[@]} - 1; i >= 0; --i)); do
    if kill "${daemons[$i]}" 2>/dev/null; then wait "${daemons[$i]}" 2>/dev/null || true; fi
  done
  rm -rf "$folder"
}
trap finish EXIT

# Everything in one folder: nothing of the machine's own Slurm, if it has one, is touched.
export SLURM_CONF=$folder/slurm.conf
host=$(hostname -s)
dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none
chmod 400 "$folder/munge.key"
cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=60 State=UP
CONF
mkdir "$folder/state" "$folder/spool"

# start NAME PROGRAM...: a daemon in the foreground of the background.
start() {
  "${@:2}" >"$folder/$1.log" 2>&1 &
  daemons+=($!)
}
# wait_for SECONDS WHAT COMMAND...: until it succeeds.
wait_for() {
  for ((i = 0; i < $1 * 10; ++i)); do
    if "${@:3}" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  echo "FAILED: no $2 within $1 s"
  exit 1
}
start munged munged --foreground --force --key-file="$folder/munge.key" \
  --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" --seed-file="$folder/munged.seed" \
  --log-file="$folder/munged-own.log" --num-threads=2
wait_for 20 munged test -S "$folder/munge.socket"
start slurmctld slurmctld -D -i -f "$SLURM_CONF"
start slurmd slurmd -D -f "$SLURM_CONF" -N "$host"
is_idle() { [[ $(sinfo -h -o %T) == idle* ]]; }
wait_for 60 "idle node" is_idle
sinfo

ended() { [[ -z $(squeue -h) ]]; }
is_running() { [[ -s $folder/out/shard-0/cells.jsonl ]]; }
export KVR=$kvr
scripts/slurm/submit.sh $shards $config "$folder/out" "${options[@]}"
# One task is killed as soon as it has cells: the merge never starts, and the rest goes on.
wait_for 300 "cells of shard 0" is_running
scancel --signal=KILL --full "$(squeue -h -r -t R -o '%A' | head -1)"
wait_for 600 "end of the jobs" ended
if [[ -e $folder/out/all/run.json ]]; then
  echo "FAILED: merged although a shard was killed"
  exit 1
fi
if "$kvr" merge "$folder"/out/shard-* --out "$folder/holes" >"$folder/refusal.log" 2>&1; then
  echo "FAILED: a sweep with a hole was merged"
  exit 1
fi
cat "$folder/refusal.log"
# Sent again, it goes on: no cell that was there is run once more.
cat "$folder"/out/shard-*/cells.jsonl | sort >"$folder/before"
scripts/slurm/submit.sh $shards $config "$folder/out" "${options[@]}"
wait_for 600 "end of the jobs" ended
cat "$folder/out/logs/merge.log"
if [[ -n $(sort "$folder"/out/shard-*/cells.jsonl | comm -23 "$folder/before" -) ]]; then
  echo "FAILED: cells were lost or run again"
  exit 1
fi

"$kvr" sweep $config "${options[@]}" --baseline block --out "$folder/whole"
scripts/same_cells.py "$folder/whole" "$folder/out/all"
"$kvr" report "$folder/out/all"
