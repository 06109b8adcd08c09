#!/usr/bin/env python3
"""Makes data/gcide.txt: English text for configs/retrieval.json, a paragraph for each article.

The text is GCIDE, the GNU Collaborative International Dictionary of English (Webster's of 1913 with
additions; GPL-2.0 or later), some five million words, from Debian's package dict-gcide: the
installed one, or else it is downloaded with apt-get and unpacked beside, which needs no root.
Nothing of it is part of this project; whoever passes the file on passes on GCIDE.

examples:
  scripts/get_corpus.py
  scripts/get_corpus.py --dictionary /usr/share/dictd/wn.dict.dz --out data/wordnet.txt

exit codes: 0 done; 2 bad usage; 4 network, disk or a missing tool
"""

import argparse
import gzip
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "dict-gcide"
INSTALLED = Path("/usr/share/dictd/gcide.dict.dz")


def downloaded(folder: Path) -> Path:
    """Downloads and unpacks the package in `folder`; the path of its dictionary."""
    subprocess.run(["apt-get", "download", "-q", PACKAGE], cwd=folder, check=True)
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder / "files"], check=True)
    return folder / "files" / INSTALLED.relative_to("/")


def articles(text: str) -> list[str]:
    """Each article on one line, without what says who wrote it or how it is spoken."""
    text = re.sub(r"\[(1913 Webster|PJC|WordNet[^]]*|Webster 1913[^]]*)\]", "", text)
    text = re.sub(r"\\[^\\\n]{1,80}\\,?", "", text)  # \Ar*peg"gio\
    text = re.sub(r"[{}]", "", text)  # links to other articles
    # An article begins at the line's start, its text is indented.
    parts = re.split(r"\n+(?=\S)", text)
    return [line for line in (" ".join(part.split()) for part in parts) if len(line.split()) > 3]


def make(dictionary: Path, out: Path) -> None:
    text = gzip.decompress(dictionary.read_bytes()).decode("utf-8", errors="replace")
    lines = articles(text)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    part.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    os.replace(part, out)
    words = sum(len(line.split()) for line in lines)
    print(f"{out}: {len(lines):,} articles, {words:,} words", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dictionary", type=Path, help="a dictd dictionary (.dict.dz) to read instead")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "gcide.txt")
    options = parser.parse_args()
    try:
        if options.dictionary or INSTALLED.exists():
            make(options.dictionary or INSTALLED, options.out)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            make(downloaded(Path(folder)), options.out)
        return 0
    except (OSError, subprocess.CalledProcessError, EOFError) as error:
        print(f"get_corpus.py: {error}", file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main())
