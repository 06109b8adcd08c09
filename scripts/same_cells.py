#!/usr/bin/env python3
"""Compares two runs' cells in all that is the same on every machine: same_cells.py RUN RUN.

Cells are matched by what tells them apart, whatever their order. Times, texts' likeness and whatever
else a machine may change are left out. Exits with 1 when a cell is in one run only or differs, with 3
when a file can't be read.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

IDENTITY = (
    "model", "precision", "prompt_id", "repetition", "arm", "schedule", "control", "policy", "match",
    "codec", "candidates", "asked_page_cache",
)  # fmt: skip
COMPARED = (
    "workload", "seed", "cached_parent", "session", "turn", "history_tokens", "outcome", "limited_by",
    "exact_claimed", "prompt_tokens", "reuse_depth", "available_depth", "entry", "restored_bytes",
    "work", "new_tokens", "tokens", "text", "truncated_tokens",
)  # fmt: skip


def read_cells(run: Path) -> dict[str, dict]:
    cells: dict[str, dict] = {}
    for number, line in enumerate((run / "cells.jsonl").read_text().splitlines(), 1):
        cell = json.loads(line)
        name = " ".join(f"{field}={cell.get(field)}" for field in IDENTITY)
        if name in cells:
            raise ValueError(f"{run}/cells.jsonl:{number} repeats a cell: {name}")
        cells[name] = cell
    return cells


def differences(first: dict[str, dict], second: dict[str, dict]) -> list[str]:
    lines = [f"only in the first: {name}" for name in first if name not in second]
    lines += [f"only in the second: {name}" for name in second if name not in first]
    for name in first.keys() & second.keys():
        for field in COMPARED:
            one, other = first[name].get(field), second[name].get(field)
            if one != other:
                lines.append(f"{field} is {one} and {other}: {name}")
    return sorted(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    args = parser.parse_args()
    try:
        first, second = read_cells(args.first), read_cells(args.second)
    except (OSError, ValueError) as error:
        print(f"same_cells.py: {error}", file=sys.stderr)
        return 3
    lines = differences(first, second)
    for line in lines[:20]:
        print(line)
    if len(lines) > 20:
        print(f"... and {len(lines) - 20} more")
    if lines or not first:
        print(f"DIFFERENT: {len(first)} and {len(second)} cells, {len(lines)} differences")
        return 1
    print(f"{len(first)} cells, equal in all {len(IDENTITY) + len(COMPARED)} fields compared")
    return 0


if __name__ == "__main__":
    sys.exit(main())
