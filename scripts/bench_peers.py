#!/usr/bin/env python3
"""Times kvr beside other programs: same model, same token ids, same threads, taking turns.

{programs}

Each program has a process of its own, which sleeps while another one is measured. In each round
every case is run by every program, in an order that turns with the round. Each run follows one of the
same shape that is not measured; what is recycled has another suffix of new tokens each time, so that
none has been seen. Nothing is left out: a program that can't run is named with its reason.

With --busy the cases are other ones: 417 tokens and 24 behind them, quiet and beside that many
processes which do nothing but compute, and what share of its own quiet speed each program keeps.

Needs what scripts/requirements-peers.txt lists, in an environment of its own; llama.cpp is optional.
Its binding runs with its defaults, flash attention off.

examples:
  .venv-peers/bin/python scripts/bench_peers.py --out results/peers
  .venv-peers/bin/python scripts/bench_peers.py smollm2 --rounds 3 --programs kvr,transformers
  .venv-peers/bin/python scripts/bench_peers.py smollm2 --busy 1,2,4 --out results/peers-busy
  .venv-peers/bin/python scripts/bench_peers.py --render results/peers/peers.json

Writes peers.json, with every sample, and peers.md, the tables; the tables also go to stdout.
exit codes: 0 done; 2 bad usage; 3 a model is missing; 4 something else is
"""

import argparse
import json
import os
import sys
import textwrap
from pathlib import Path

from kvr_peers.models import ENCODER, MODELS, ROOT, what_is_missing
from kvr_peers.registry import all_programs, asked_for
from kvr_peers.runner import environment, measure_encoder, measure_language, say
from kvr_peers.tables import render


def listing() -> str:
    """What is measured beside kvr."""
    peers = [program for program in all_programs() if program.name != "kvr"]
    lines = [
        textwrap.fill(
            program.about(), 103, initial_indent=f"  {program.name}".ljust(17),
            subsequent_indent=" " * 17,
        )
        for program in peers
        if program.language
    ]
    encoders = ", ".join(program.name for program in peers if not program.language)
    return "\n".join([*lines, f"  {encoders}   for the sentence encoder"])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.format(programs=listing()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [*MODELS, ENCODER]
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every program (all)")
    parser.add_argument("--programs", type=lambda s: s.split(","), help="only these, by name")
    parser.add_argument(
        "--busy", type=lambda s: [int(count) for count in s.split(",")],
        help="beside this many busy processes each: 1,2,4",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results/peers", help="folder to write")
    parser.add_argument("--render", type=Path, help="print the tables of an earlier peers.json")
    args = parser.parse_args(arguments)
    if args.render:
        return args
    args.models = args.models or (list(MODELS) if args.busy else names)
    for name in args.models:
        if name not in names:
            parser.error(f"model: found {name}, expected some of {', '.join(names)}")
    labels = dict.fromkeys(label for program in all_programs() for label in program.labels())
    for name in args.programs or []:
        if not any(asked_for(label, [name]) for label in labels):
            parser.error(f"--programs: found {name}, expected some of {', '.join(labels)}")
    if args.busy and (min(args.busy) < 1 or ENCODER in args.models):
        parser.error("--busy: expected counts of 1 or more, and language models")
    if args.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    return args


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    if args.render:
        print(render(json.loads(args.render.read_text())), end="")
        return 0
    if missing := what_is_missing(args.models, args.programs):
        say("missing; make it with:\n  " + "\n  ".join(missing))
        return 3

    args.out.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    result = {
        "environment": environment(), "rounds": args.rounds, "threads": args.threads,
        "busy": args.busy, "models": [], "skipped": [],
    }
    for name in args.models:
        try:
            measured = (
                measure_encoder(args, result["skipped"]) if name == ENCODER
                else measure_language(name, args, result["skipped"])
            )
        except RuntimeError as error:
            say(f"{name}: {error}")
            return 4
        result["models"].append(measured)
        # After each model, so that a failure of the next loses nothing.
        (args.out / "peers.json").write_text(json.dumps(result))
        (args.out / "peers.md").write_text(render(result))
    print(render(result), end="")
    say(f"wrote {args.out}/peers.json and peers.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
