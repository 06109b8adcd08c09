"""scripts/same_cells.py on runs made here."""

import json
import sys
from pathlib import Path

import pytest
import same_cells

CELL = {
    "model": "m", "precision": "fp32", "prompt_id": "t", "repetition": 0, "arm": "baseline",
    "schedule": "block", "control": False, "policy": "off", "match": None, "outcome": "off",
    "reuse_depth": 0, "tokens": [1, 2], "work": {"prefilled_tokens": 4}, "ttft_ms": 10.0,
}  # fmt: skip


def write(folder: Path, cells: list[dict]) -> str:
    folder.mkdir()
    (folder / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    return str(folder)


def run(monkeypatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["same_cells.py", *args])
    return same_cells.main()


def test_order_and_times_do_not_matter(tmp_path, monkeypatch):
    other = CELL | {"repetition": 1}
    first = write(tmp_path / "a", [CELL, other])
    second = write(tmp_path / "b", [other | {"ttft_ms": 99.0}, CELL])
    assert run(monkeypatch, first, second) == 0


@pytest.mark.parametrize("field", same_cells.COMPARED)
def test_each_compared_field_tells(tmp_path, monkeypatch, capsys, field):
    first = write(tmp_path / "a", [CELL])
    second = write(tmp_path / "b", [CELL | {field: "another"}])
    assert run(monkeypatch, first, second) == 1
    assert f"{field} is " in capsys.readouterr().out


@pytest.mark.parametrize("field", same_cells.IDENTITY)
def test_another_cell_is_no_match(tmp_path, monkeypatch, capsys, field):
    first = write(tmp_path / "a", [CELL])
    second = write(tmp_path / "b", [CELL | {field: "another"}])
    assert run(monkeypatch, first, second) == 1
    out = capsys.readouterr().out
    assert "only in the first" in out and "only in the second" in out


def test_a_missing_cell_no_cell_and_no_file_are_told(tmp_path, monkeypatch):
    first = write(tmp_path / "a", [CELL, CELL | {"repetition": 1}])
    second = write(tmp_path / "b", [CELL])
    empty = write(tmp_path / "c", [])
    twice = write(tmp_path / "d", [CELL, CELL])
    assert run(monkeypatch, first, second) == 1
    assert run(monkeypatch, second, first) == 1
    assert run(monkeypatch, empty, empty) == 1
    assert run(monkeypatch, twice, second) == 3
    assert run(monkeypatch, second, str(tmp_path / "nowhere")) == 3
