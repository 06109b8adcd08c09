#!/usr/bin/env python3
"""What the exporter and the program must both know is the same number in both: the layout of packed
weights, the rows that torch's operators are padded to, the parts of an archive's digest.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The exporter's name, the program's, and whether the exporter must have it.
SAME = [
    ("PANEL", "kPanel", True),
    ("GROUP", "kGroup", True),
    ("PAD_ROWS", "kBlockMultiple", True),
    ("PART", "kPart", True),
    ("INT8_FOURS", "kDotInputs", False),
    ("VECTOR", "kWidthMultiple", False),
]
FILES = ["src/model/kernels/kernels.h", "src/model/archive_image.cc", "include/kvr/base/types.h"]


def number(text: str) -> int:
    """The value of "32", "4 << 20" or "std::size_t{4} << 20"."""
    left, _, shift = re.sub(r"std::size_t\{(\d+)\}", r"\1", text).partition("<<")
    return int(left) << int(shift or 0)


def main() -> int:
    exporter = "\n".join(p.read_text() for p in (ROOT / "scripts/kvr_export").rglob("*.py"))
    program = "\n".join((ROOT / name).read_text() for name in FILES)
    wrong = []
    for theirs, ours, required in SAME:
        there = re.search(rf"^{theirs} = ([\d< ]+)", exporter, re.M)
        here = re.search(rf"^(?:inline )?constexpr [\w:]+ {ours} = (.*?);", program, re.M)
        if here is None or (there is None and required):
            wrong.append(f"{theirs} or {ours} is not found")
        elif there is not None and number(there[1]) != number(here[1]):
            wrong.append(f"{theirs} is {there[1]}, {ours} is {here[1]}")
    names = re.search(r"^(NONE, .*) = range\((\d+)\)", exporter, re.M)
    enum = re.search(r"enum class Activation \{(.*?)\};", program, re.S)
    if names is None or enum is None:
        wrong.append("the activations are not found")
    else:
        camel = [part.title().replace("_", "") for part in names[1].split(", ")]
        ours = re.findall(r"^\s*k(\w+),", enum[1], re.M)
        if [name.lower() for name in camel] != [name.lower() for name in ours]:
            wrong.append(f"the activations are {camel} and {ours}")
    print("\n".join(wrong) or "the exporter and the program agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
