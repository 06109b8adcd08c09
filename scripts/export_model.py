#!/usr/bin/env python3
"""Turns a model into one TorchScript archive that kvr runs (docs/archive_format.md).

examples:
  scripts/export_model.py models/sources/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --precision source \
      --out models/smollm2.pt
  scripts/export_model.py models/sources/minilm --out models/minilm.pt
  scripts/export_model.py microsoft/DialoGPT-medium --out models/dialogpt-medium.pt
  scripts/export_model.py my_folder --random --seed 7 --out models/shape.pt

The archive is compared with the reference model before it is written; where they differ, nothing is.
"""

import argparse
import os
import sys
import time
from pathlib import Path


def options(precisions: tuple[str, ...], families: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nmodel families: {families}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="a hub id, a folder in the hub's layout, or a .gguf file")
    parser.add_argument("--out", required=True, type=Path, help="the archive to write (.pt)")
    parser.add_argument(
        "--precision", default="fp32", choices=precisions,
        help="of the weights; source: a quantized file's own numbers, with the results of fp32 to the bit; "
        "bf16 and int8 ship only if close enough to fp32 (default fp32)",
    )
    parser.add_argument("--random", action="store_true", help="seeded weights; of SOURCE only config and tokenizer")
    parser.add_argument("--seed", type=int, default=0, help="for --random (default 0)")
    parser.add_argument("--name", help="the model's name (default: from the source)")
    parser.add_argument("--threads", type=int, default=0, help="default: all cores")
    parser.add_argument("--debug", action="store_true", help="show where an error arises")
    return parser


def main() -> int:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' bars, among our own lines
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    try:
        import torch
        import transformers

        from kvr_export import archive, families, layers, parity, refused, sources
    except ImportError as error:
        print(f"export_model.py: {error}; run it with .venv/bin/python", file=sys.stderr)
        return 4
    args = options(layers.PRECISIONS, families.supported()).parse_args()

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)
    started = time.monotonic()

    def say(message: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {message}", file=sys.stderr, flush=True)

    def fail(message: str, status: int) -> int:
        if args.debug:
            raise  # the error that is being handled
        print(f"export_model.py: {refused.one_line(message, 500)}", file=sys.stderr)
        return status

    try:
        source = sources.find(args.source, args.name, args.random, args.seed)
        archive.export(source, args.out, args.precision, say)
    except parity.Different as error:
        return fail(str(error), 1)
    except refused.Refused as error:
        return fail(str(error), error.status)
    except ValueError as error:  # what our own code and the loaders can't read
        return fail(str(error), 2)
    except (OSError, MemoryError) as error:
        return fail(str(error) or "out of memory", 4)
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except Exception as error:  # of a loader: its kinds are not documented
        return fail(
            f"{args.source}: can't be exported: {type(error).__name__}: {error} "
            "(--debug shows where)", 3,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
