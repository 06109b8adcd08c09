#!/usr/bin/env python3
"""Fetches the models' source files into models/sources/NAME.

{models}

Every file is checked against a pinned SHA-256 (the hub's files: against what the hub declares)
before it gets its name, and NAME/SHA256SUMS lists them. A second run checks sizes and times only,
unless --verify is given.

examples:
  .venv/bin/python scripts/get_models.py
  .venv/bin/python scripts/get_models.py minilm --verify
  .venv/bin/python scripts/get_models.py dialogpt-medium
  .venv/bin/python scripts/get_models.py dialogpt-medium --random-weights

exit codes: 0 done; 2 bad usage; 4 network, disk or a missing tool; 130 interrupted
"""

import argparse
import fcntl
import shutil
import sys
import tarfile
import tempfile
import textwrap
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvr_models import catalogue
from kvr_models.files import Failed, say

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "scripts" / "models.json"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One fetch at a time per folder; leftovers of a killed one are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another download into {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in [*folder.glob(".download-*"), *folder.glob("**/.*.part")]:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        yield


def listing(models: dict[str, catalogue.Model]) -> str:
    wide = max(map(len, models)) + 4
    return "\n".join(
        textwrap.fill(
            model.about, 100, initial_indent=f"  {name}".ljust(wide), subsequent_indent=" " * wide
        )
        for name, model in models.items()
    )


def parse(arguments: list[str] | None, models: dict[str, catalogue.Model]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.format(models=listing(models)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = [name for name, model in models.items() if model.default]
    shapes = [name for name, model in models.items() if model.source.random_weights]
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help=f"{', '.join(models)} (default: {', '.join(default)})",
    )
    parser.add_argument(
        "--dir", type=Path, default=ROOT / "models" / "sources", help="default: models/sources"
    )
    parser.add_argument(
        "--random-weights", action="store_true", help=f"of {', '.join(shapes)}, the shape only"
    )
    parser.add_argument("--verify", action="store_true", help="hash every file again")
    args = parser.parse_args(arguments)
    unknown = [n for n in args.names if n not in models]
    if unknown:
        parser.error(f"unknown model {', '.join(unknown)}; there are {', '.join(models)}")
    if not args.names:
        args.names = shapes if args.random_weights else default
    if args.random_weights and not set(shapes) & set(args.names):
        parser.error(
            f"--random-weights is for {', '.join(shapes)}; the others come with their weights"
        )
    args.names = list(dict.fromkeys(args.names))
    return args


def main(arguments: list[str] | None = None, data: Path = MODELS) -> int:
    try:
        models = catalogue.read(data)
        args = parse(arguments, models)
        with (
            locked(args.dir),
            tempfile.TemporaryDirectory(prefix=".download-", dir=args.dir) as scratch,
        ):
            for name in args.names:
                source = models[name].source
                if args.random_weights and source.random_weights:
                    source.random_weights.get(args.dir / f"{name}-random", Path(scratch), args.verify)
                else:
                    source.get(args.dir / name, Path(scratch), args.verify)
    except Failed as error:
        print(f"get_models.py: {error}", file=sys.stderr)
        return 4
    except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        print(f"get_models.py: {type(error).__name__}: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        print("get_models.py: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
