"""The report's page in a browser, its LaTeX in LaTeX, its CSV in a reader, its figures as files.

Each with prompts, workloads and replies that are anything but plain. Browser, LaTeX and vl-convert
are no requirement: where one is missing, its test is skipped, and says so.
"""

import csv
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KVR = os.environ.get("KVR_BINARY", str(ROOT / "build/release/kvr"))

HOSTILE = [
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "<!-- <script>",
    "]]> {{x}} ${y} `z` __proto__ constructor ' onfocus='x",
    "\\end{document} \\input{nowhere} % _ # & ~ ^ {} $x$ \\",
    "=cmd|'/c calc'!A1",
    "+1+1",
    "-2+3",
    "@SUM(1+1)",
    'a,=1+1;=2+2\t=3\n=4"=5',
    "nul \0 bell \a escape \x1b[31m delete \x7f next \x85 end",
    "one\ntwo\r\nthree\u2028four\u2029five",
    "\u202egnirts\u202c \u200fright\u200e \u061c \u2067isolated\u2069",
    "日本語 العربية עברית 🙂 é đ ﬁ e\u0301 \ufffd \ufffe \uffff",
    "[optional] *starred* -- `` '' ?` !`",
    "w" * 300,
]

FIDELITY = {
    "exact": True, "compared_tokens": 3, "first_divergence": None, "max_abs_logit_diff": 0.0,
    "kl_mean": 0.0, "kl_max": 0.0, "top1": 1.0, "cosine": 1.0, "rouge_l": 1.0,
    "semantic": "measured",
}  # fmt: skip
CELL = {
    "schema": 2, "model": "tiny", "precision": "fp32", "workload": "w", "prompt_id": "p",
    "repetition": 0, "arm": "baseline", "schedule": "block", "control": False, "policy": "off",
    "match": None, "codec": None, "outcome": "off", "limited_by": None, "exact_claimed": False,
    "prompt_tokens": 100, "reuse_depth": 0, "prefill_ms": 90.0, "ttft_ms": 100.0,
    "decode_ms": 20.0, "total_ms": 120.0, "new_tokens": 3, "tokens": [5, 6, 7], "full": True,
    "text": "five six seven", "truncated_tokens": 0, "fidelity": FIDELITY,
}  # fmt: skip


def cells_of(text: str, place: int) -> list[dict]:
    """A prompt's cells: three repetitions of either arm, the last reply another than the rest."""
    where = {"prompt_id": text, "workload": HOSTILE[place % 3], "turn": 1 + place % 4,
             "session": f"s{place % 5}", "text": text}  # fmt: skip
    cells = []
    for repetition in range(3):
        depth = 5 * place
        cells.append(CELL | where | {"repetition": repetition, "ttft_ms": 100.0 + repetition})
        cells.append(
            CELL | where
            | {"repetition": repetition, "arm": "recycled", "policy": "embedding", "match": "token",
               "codec": "fp32", "outcome": "hit" if depth else "miss", "reuse_depth": depth,
               "limited_by": "diverged", "available_depth": depth + 5, "entry": text,
               "embed_ms": 3.0, "lookup_ms": 1.0, "restore_ms": 1.0 if depth else None,
               "prefill_ms": 60.0 - place, "ttft_ms": 65.0 - place + repetition,
               "tokens": [5, 6, 7 + repetition // 2],
               "fidelity": FIDELITY if repetition < 2 else
                           FIDELITY | {"exact": False, "first_divergence": 2},
               "text": text + ("!" if repetition == 2 else "")}
        )  # fmt: skip
    return cells


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "hostile"
    folder.mkdir()
    description = {
        "schema": 2, "name": HOSTILE[0], "config": {"control_groups": [], "note": HOSTILE},
        "environment": {"host": HOSTILE[1], "cpu_model": HOSTILE[4], "threads": 2},
        "models": [{"name": "tiny", "precision": "fp32", "fingerprint": "00",
                    "random_weights": False, "probe": {"exact": True, "cuts": 7},
                    "baseline": {"schedule": "block", "block_ms": [], "free_ms": []}}],
        "fill": [], "started": None, "finished": None,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(description))
    lines = [cell for place, text in enumerate(HOSTILE) for cell in cells_of(text, place)]
    (folder / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def report(run: Path, *options: str) -> str:
    done = subprocess.run([KVR, "report", str(run), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("SKIPPED ALOUD: no Chromium here; the page's figures were not drawn")


# A phone's width, and a desk's.
@pytest.mark.parametrize("size", ["360,800", "1200,900"])
def test_a_browser_draws_every_figure_and_runs_no_text(run, tmp_path, size):
    chromium = browser()
    page = tmp_path / "page.html"
    report(run, "--html", str(page))
    figures = page.read_text(encoding="utf-8").count('<figure id="')
    assert figures >= 6
    done = subprocess.run(
        [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size}",
         "--virtual-time-budget=60000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert said == []
    dom = done.stdout
    assert f'data-drawn="{figures}"' in dom
    assert len(re.findall(r'<svg[^>]*class="marks"', dom)) == figures
    title = re.search(r"<title>(.*?)</title>", dom, re.S).group(1)
    assert html.unescape(title).startswith(HOSTILE[0])  # and not 'taken'
    assert not re.search(r"<img\b", re.sub(r"<script>.*?</script>", "", dom, flags=re.S))


def test_latex_takes_every_table(run, tmp_path):
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("SKIPPED ALOUD: no pdflatex here; the LaTeX tables were not compiled")
    (tmp_path / "report.tex").write_text(report(run, "--format", "latex"), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        report(run, "--format", "latex", "--table", "paper"), encoding="utf-8"
    )
    (tmp_path / "main.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,longtable}\n"
        "\\begin{document}\n\\input{report}\n\\input{paper}\nREACHED-THE-END\\end{document}\n"
    )
    done = subprocess.run(
        [latex, "-interaction=nonstopmode", "-halt-on-error", "main.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    if pdftotext := shutil.which("pdftotext"):
        text = subprocess.run(
            [pdftotext, "main.pdf", "-"], cwd=tmp_path, capture_output=True, text=True
        ).stdout
        assert "REACHED-THE-END" in text  # which \end{document} in a prompt would cut off


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_no_cell_of_the_csv_is_a_formula(run):
    everything = report(run, "--format", "csv")
    for table in ("prompts", "paper", "workloads"):
        one = report(run, "--format", "csv", "--table", table)
        rows = list(csv.reader(io.StringIO(one, newline="")))
        assert len(rows) > 2
        assert len({len(row) for row in rows}) == 1, "a text broke a row"
        assert one.replace("\r\n", "\n") in everything.replace("\r\n", "\n")
    # As a spreadsheet may cut it, whatever it takes for a separator, with quotes or without.
    for cell in re.split(r"[,;\t\r\n]", everything):
        cell = cell.lstrip('"')
        assert not cell.startswith(("=", "+", "-", "@")) or is_number(cell), cell
    assert "\0" not in everything and "\x1b" not in everything


def test_a_papers_figures_are_files(run, tmp_path):
    python = ROOT / ".venv-figures/bin/python"
    if not python.exists():
        pytest.importorskip(
            "vl_convert", reason="SKIPPED ALOUD: no vl-convert here; figures.py was not tried"
        )
        python = Path(sys.executable)
    out = tmp_path / "figures"
    done = subprocess.run(
        [python, str(ROOT / "scripts/figures.py"), str(run), "--out", str(out), "--kvr", KVR],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    specs = sorted(path.stem for path in out.glob("*.json"))
    assert len(specs) >= 6
    for name in specs:
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF-")
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        import xml.etree.ElementTree as tree

        svg = tree.parse(out / f"{name}.svg").getroot()
        assert svg.tag.endswith("svg")
        assert not list(svg.iter("{http://www.w3.org/2000/svg}script"))
