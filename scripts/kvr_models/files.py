"""Files that are whole or absent, and held against pinned SHA-256 digests."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NewType

SUMS = "SHA256SUMS"
CHUNK_BYTES = 1 << 20
STARTED = time.monotonic()

Sha256 = NewType("Sha256", str)  # 64 hexadecimal digits


class Failed(Exception):
    """Network, disk, a missing tool or wrong data; the message says what to do."""


@dataclass(frozen=True)
class Archive:
    bytes: int
    sha256: Sha256


@dataclass(frozen=True)
class Pinned:
    member: str  # its path inside the package
    bytes: int
    sha256: Sha256


def say(message: str) -> None:
    print(f"[{time.monotonic() - STARTED:5.1f} s] {message}", file=sys.stderr, flush=True)


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def published(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when the block ends well, and is removed when it doesn't."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")  # one writer: the lock in get_models.py
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def copy_checked(source: BinaryIO, path: Path, pinned: Pinned) -> None:
    digest, size = hashlib.sha256(), 0
    with published(path) as file:
        while chunk := source.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        if (size, digest.hexdigest()) != (pinned.bytes, pinned.sha256):
            raise Failed(
                f"{pinned.member}: {size} bytes, sha256 {digest.hexdigest()}; expected "
                f"{pinned.bytes} bytes, {pinned.sha256}. Not kept; run again"
            )


def write_sums(folder: Path, sums: dict[str, str]) -> None:
    with published(folder / SUMS) as file:
        file.write("".join(f"{sha}  {name}\n" for name, sha in sorted(sums.items())).encode())


def read_sums(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {name: sha for sha, _, name in (line.partition("  ") for line in lines)}


def unchanged(folder: Path, names: Iterable[str]) -> bool:
    """Whether all of `names` are there and none was touched since SHA256SUMS was written."""
    try:
        written = (folder / SUMS).stat().st_mtime_ns
        stats = [(folder / name).stat() for name in names]
    except FileNotFoundError:
        return False
    return all(max(s.st_mtime_ns, s.st_ctime_ns) <= written for s in stats)


def bad_files(folder: Path, files: dict[str, Pinned], full: bool) -> list[str]:
    """Those of `files` that are absent or differ. Hashes only when it must, or `full` says so."""
    sums = read_sums(folder)
    trusted = not full and unchanged(folder, files)
    bad = []
    for name, pinned in files.items():
        path = folder / name
        if not path.is_file():
            bad.append(name)
        elif path.stat().st_size != pinned.bytes:
            say(f"{path}: {path.stat().st_size} bytes, expected {pinned.bytes}: fetching it again")
            bad.append(name)
        elif not (trusted and sums.get(name) == pinned.sha256) and (
            sha256_of(path) != pinned.sha256
        ):
            say(f"{path}: its sha256 is not {pinned.sha256}: fetching it again")
            bad.append(name)
    return bad


def finish(folder: Path, sums: dict[str, str], new: bool, verified: bool) -> None:
    # Written also after a full check, so that the next one is quick again.
    if new or read_sums(folder) != sums or not unchanged(folder, sums):
        write_sums(folder, sums)
    how = "complete" if new else "all hashes right" if verified else "already here"
    say(f"{folder.name}: {how} ({folder})")


def run_fetcher(command: list[str], what: str, remedy: str) -> None:
    """Runs a package client with its output, and so its progress bar, in view."""
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise Failed(f"{what} failed (exit {done.returncode}): {remedy}")
