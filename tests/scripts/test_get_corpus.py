"""scripts/get_corpus.py on a dictionary of three articles."""

import gzip
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "get_corpus.py"
DICTIONARY = """
Arpeggio \\Ar*peg"gio\\, n. [It., fr. arpeggiare to play on the
   harp, fr. arpa harp.] (Mus.)
   The production of the tones of a chord in rapid succession,
   as in playing the harp. See {Chord}.
   [1913 Webster]

Empty \\Emp"ty\\, a.

Arquebusade \\Ar`que*bus*ade"\\, n. [F.]
   1. The shot of an arquebus. --Ash.
      [1913 Webster]

   2. A distilled water.
      [PJC]
"""


def run(*arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)


def test_an_article_is_a_paragraph_without_its_marks(tmp_path: Path) -> None:
    (tmp_path / "a.dict.dz").write_bytes(gzip.compress(DICTIONARY.encode()))
    out = tmp_path / "data" / "a.txt"
    done = run("--dictionary", tmp_path / "a.dict.dz", "--out", out)
    assert done.returncode == 0, done.stderr
    assert out.read_text() == (
        "Arpeggio n. [It., fr. arpeggiare to play on the harp, fr. arpa harp.] (Mus.) The production"
        " of the tones of a chord in rapid succession, as in playing the harp. See Chord.\n\n"
        "Arquebusade n. [F.] 1. The shot of an arquebus. --Ash. 2. A distilled water.\n"
    )
    assert "2 articles, 46 words" in done.stderr


def test_what_is_no_dictionary_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.dict.dz").write_text("no gzip")
    for name in ("a.dict.dz", "absent.dict.dz"):
        done = run("--dictionary", tmp_path / name, "--out", tmp_path / "a.txt")
        assert done.returncode == 4
        assert name in done.stderr or "gzip" in done.stderr
    assert not (tmp_path / "a.txt").exists()
