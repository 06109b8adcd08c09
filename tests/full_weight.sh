#!/usr/bin/env bash
# Tests with the real models, run by ctest: full_weight.sh WHAT KVR. They are skipped aloud (exit 77)
# where the models are not there.
set -euo pipefail
cd "$(dirname "$0")/.."
what=$1 kvr=$2
smollm2=models/sources/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

for file in models/smollm2.pt models/minilm.pt "$smollm2"; do
  if [[ ! -e $file ]]; then
    echo "SKIPPED: $file is missing; scripts/setup.sh makes it"
    exit 77
  fi
done

# Prose, code and markup of this tree and of Python's own library, beside what the tool makes itself.
texts=(README.md docs/*.md configs/prompts/*.jsonl src/*/*.cc
  "$(.venv/bin/python -c 'import argparse; print(argparse.__file__)')"
  "$(.venv/bin/python -c 'import typing; print(typing.__file__)')")

case $what in
  tokenizer-smollm2)
    .venv/bin/python scripts/tokenizer_parity.py --kvr "$kvr" --model models/smollm2.pt \
      --source "$smollm2" "${texts[@]}"
    ;;
  tokenizer-minilm)
    .venv/bin/python scripts/tokenizer_parity.py --kvr "$kvr" --model models/minilm.pt \
      --source models/sources/minilm "${texts[@]}"
    ;;
  greedy)
    .venv/bin/python scripts/greedy_parity.py "$smollm2" --kvr "$kvr" --archive models/smollm2.pt \
      --prompts configs/prompts/paper_test.jsonl --count 5 --new-tokens 32
    ;;
  smoke)
    # The report ends with 1 when a cell that is claimed exact is not.
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$kvr" sweep configs/smoke.json --out "$folder/run"
    "$kvr" report "$folder/run"
    ;;
  performance)
    # Ratios of one run only, with wide margins: other work on the machine must not fail it.
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$kvr" bench --model models/smollm2.pt --encoder models/minilm.pt --cache "$folder" \
      --repetitions 3 --json >"$folder/bench.json"
    .venv/bin/python - "$folder/bench.json" <<'PYTHON'
import json, sys

rows = {(r["phase"], r["what"]): r for r in json.load(open(sys.argv[1]))["rows"]}
least = {
    ("prefill", "512 tokens"): 0.3,
    ("decode", "depth 16"): 0.25,
    ("recycled TTFT", "900 restored + 32"): 0.2,
    ("restore", "page cache, 1 thread"): 0.1,
    ("lookup", "embedding, 1000 entries"): 0.2,
}
failed = False
for key, floor in least.items():
    ratio = rows[key]["ratio"]
    failed |= not ratio >= floor
    print(f"{' '.join(key)}: {ratio:.2f} of its bound, required {floor}")
speedup = rows["speedup", "faster baseline over recycled, 900 + 32"]["measured"]
failed |= not speedup >= 4
print(f"speedup at 900 + 32: {speedup:.1f}, required 4")
sys.exit(failed)
PYTHON
    # Beside a busy process: with OpenMP's regions decoding had 0.4 of its fair share.
    "$kvr" bench --model models/smollm2.pt --encoder models/minilm.pt --cache "$folder" \
      --busy 1 --repetitions 5 --json >"$folder/busy.json"
    .venv/bin/python - "$folder/busy.json" <<'PYTHON'
import json, sys

failed = False
for row in json.load(open(sys.argv[1]))["rows"]:
    if row["phase"] not in ("prefill", "decode"):
        continue
    share = row["share"] / row["fair_share"]
    failed |= not share >= 0.5
    print(f"{row['phase']} beside a busy process: {share:.2f} of its fair share, required 0.5")
sys.exit(failed)
PYTHON
    ;;
  *)
    echo "unknown: $what" >&2
    exit 2
    ;;
esac
