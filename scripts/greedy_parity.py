#!/usr/bin/env python3
"""Compares kvr's greedy text with transformers' generate, token by token.

example:
  scripts/greedy_parity.py models/sources/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \\
      --archive models/smollm2.pt --prompts configs/prompts/paper_test.jsonl

Where the two part, the reference's two largest logits at that step are shown: rounding can decide
between two tokens only when they are close. Exit code 1 when they part at a gap above --tolerance.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="what the archive was exported from")
    parser.add_argument("--archive", required=True)
    parser.add_argument("--prompts", required=True, type=Path, help="JSONL with a text a line")
    parser.add_argument("--count", type=int, default=20, help="prompts, from the first (20)")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of the logit gap (1e-3)")
    parser.add_argument("--kvr", default=str(ROOT / "build/release/kvr"))
    args = parser.parse_args()

    sys.path.insert(0, str(ROOT / "scripts"))
    import torch
    import transformers
    from kvr_export import sources, tokenizer

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    lines = [json.loads(line) for line in args.prompts.read_text().splitlines() if line.strip()]
    lines = lines[: args.count]

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as batch:
        batch.write("".join(json.dumps({"id": p["id"], "text": p["text"]}) + "\n" for p in lines))
        batch.flush()
        done = subprocess.run(
            [args.kvr, "run", "--model", args.archive, "--batch", batch.name, "--arm", "baseline",
             "--ignore-eos", "--max-new-tokens", str(args.new_tokens), "--json"],
            stdout=subprocess.PIPE, check=True, text=True,
        )
    ours = [json.loads(line)["arms"][0]["tokens"] for line in done.stdout.splitlines()]

    source = sources.find(args.source, None, False, 0)
    words = tokenizer.load(source.path, source.family)
    model = source.load()
    equal = wrong = 0
    for prompt, found in zip(lines, ours, strict=True):
        ids = torch.tensor([words.reference(prompt["text"])])
        with torch.no_grad():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0,
                eos_token_id=-1, max_new_tokens=args.new_tokens, output_logits=True,
                return_dict_in_generate=True,
            )
        expected = out.sequences[0, ids.shape[1]:].tolist()
        if found == expected:
            equal += 1
            continue
        at = next(i for i, (a, b) in enumerate(zip(found, expected)) if a != b)
        logits = out.logits[at][0]
        gap = float(logits[expected[at]] - logits[found[at]])
        wrong += gap > args.tolerance
        print(f"{prompt['id']}: token {at} is {found[at]}, the reference's is {expected[at]}; "
              f"logit gap {gap:.6f}")
    print(f"{equal} of {len(lines)} prompts x {args.new_tokens} tokens equal; "
          f"{wrong} part at a gap above {args.tolerance}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
