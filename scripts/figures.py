#!/usr/bin/env python3
"""Makes PDF, SVG and PNG files of a report's figures, for a paper.

    scripts/figures.py results/paper/latest --out figures

The figures are those of `kvr report RUN --html FILE`: `kvr report RUN --figures FOLDER` writes their
Vega-Lite specifications, and vl-convert draws them. Needs scripts/requirements-figures.txt, in an
environment of its own; with that in .venv-figures any Python starts it.

exit codes: 0 done, kvr's own where kvr fails, 2 without vl-convert or for a bad format
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VEGA_LITE = "6.4"  # as third_party/vega has it
FORMATS = ("pdf", "svg", "png")


def load_converter():
    """vl_convert, from this Python or .venv-figures."""
    try:
        import vl_convert

        return vl_convert
    except ImportError:
        own = ROOT / ".venv-figures" / "bin" / "python"
        if own.exists() and Path(sys.prefix).resolve() != own.parents[1].resolve():
            os.execv(own, [str(own), *sys.argv])
        print(
            "figures.py: vl_convert is missing. Run: python3 -m venv .venv-figures && "
            ".venv-figures/bin/pip install -r scripts/requirements-figures.txt",
            file=sys.stderr,
        )
        sys.exit(2)


def draw(converter, spec: dict, form: str) -> bytes:
    # In a paper the caption says what the title says.
    spec = {key: value for key, value in spec.items() if key not in ("title", "usermeta")}
    spec["background"] = "white" if form == "png" else None
    if form == "svg":
        return converter.vegalite_to_svg(spec, vl_version=VEGA_LITE).encode()
    if form == "pdf":
        return converter.vegalite_to_pdf(spec, vl_version=VEGA_LITE)
    return converter.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=3)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder (figures)")
    parser.add_argument("--formats", default=",".join(FORMATS), help="of pdf,svg,png (all)")
    parser.add_argument("--kvr", default=str(ROOT / "build/release/kvr"), help="the program")
    arguments = parser.parse_args()
    arguments.formats = arguments.formats.split(",")
    if unknown := set(arguments.formats) - set(FORMATS):
        parser.error(f"format {sorted(unknown)[0]!r}, expected one of {', '.join(FORMATS)}")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    converter = load_converter()
    command = [arguments.kvr, "report", *arguments.runs, "--figures", str(arguments.out)]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if made.returncode not in (0, 1):  # 1: an alarm, which kvr has told
        return made.returncode
    # kvr says which files it wrote: others in the folder are not of this run.
    head = "figure: "
    for line in made.stdout.splitlines():
        if not line.startswith(head):
            continue
        name = Path(line.removeprefix(head))
        spec = json.loads(name.read_text(encoding="utf-8"))
        for form in arguments.formats:
            target = name.with_suffix("." + form)
            target.write_bytes(draw(converter, spec, form))
            print(target)
    return made.returncode


if __name__ == "__main__":
    sys.exit(main())
