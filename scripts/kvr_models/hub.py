"""Model files from the hub, or from a folder filled by hand."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import SUMS, Failed, finish, published, read_sums, say, sha256_of, unchanged
from .random_weights import RandomWeights

TIMEOUT_S = 15


@dataclass(frozen=True)
class Hub:
    repository: str
    files: list[str]
    config: dict  # what config.json must say, so that another model's file is noticed
    random_weights: RandomWeights | None = None

    def get(self, folder: Path, scratch: Path, verify: bool) -> None:
        missing = [n for n in self.files if not (folder / n).is_file()]
        if missing:
            self.fetch(folder, missing)
            return
        # No pinned hashes: what was recorded when they came is all there is to hold them to.
        sums = read_sums(folder)
        if verify or set(sums) != set(self.files) or not unchanged(folder, self.files):
            say(f"{folder.name}: hashing {folder}")
            actual = {n: sha256_of(folder / n) for n in self.files}
            differing = [n for n in self.files if sums.get(n, actual[n]) != actual[n]]
            if differing:
                raise Failed(
                    f"{folder}: {', '.join(differing)} changed since {SUMS} was written. Delete "
                    f"them to have them fetched again, or {SUMS} if the change is wanted"
                )
            self.check_config(folder / "config.json")
            sums = actual
        finish(folder, sums, False, verify)

    def check_config(self, path: Path) -> None:
        try:
            config = json.loads(path.read_text())
            found = {k: config.get(k) for k in self.config}
        except (ValueError, AttributeError) as error:
            raise Failed(f"{path}: not a JSON object ({error})") from error
        if found != self.config:
            raise Failed(
                f"{path}: {found}; {self.repository} has {self.config}. Is it another model's file?"
            )

    def placement(self, folder: Path) -> str:
        text = (
            f"Where the hub can be reached, download {', '.join(self.files)} of {self.repository}, "
            f"place them in {folder}, and run this again"
        )
        if self.random_weights:
            text += (
                ". For latency work the shape is enough: "
                f"get_models.py {folder.name} --random-weights"
            )
        return text

    def fetch(self, folder: Path, missing: list[str]) -> None:
        name = folder.name
        hub = import_hub()
        say(f"{name}: asking the hub for {self.repository} (at most {TIMEOUT_S} s)")
        try:
            info = hub.HfApi().model_info(self.repository, timeout=TIMEOUT_S, files_metadata=True)
        except Exception as error:  # the hub's client has no common base for network failures
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no details"
            raise Failed(
                f"the hub can't be reached ({type(error).__name__}: {reason}). Missing in "
                f"{folder}: {', '.join(missing)}. {self.placement(folder)}"
            ) from error

        declared = {s.rfilename: s for s in info.siblings or []}
        absent = [n for n in self.files if n not in declared]
        if absent:
            raise Failed(
                f"{self.repository} at {info.sha} has no {', '.join(absent)}. "
                f"{self.placement(folder)}"
            )
        say(f"{name}: revision {info.sha}")
        sums = {n: self.fetch_file(hub, folder, info.sha, declared[n]) for n in self.files}
        self.check_config(folder / "config.json")
        with published(folder / "revision.json") as file:
            file.write(
                json.dumps({"repository": self.repository, "revision": info.sha}).encode() + b"\n"
            )
        finish(folder, sums, True, False)

    def fetch_file(self, hub: Any, folder: Path, revision: str, declared: Any) -> str:
        """The file's SHA-256."""
        file_name = declared.rfilename
        size = f" ({declared.size / 1e6:.1f} MB)" if declared.size else ""
        say(f"{folder.name}: downloading {file_name}{size}")
        try:
            # All from one revision, also those already here: it goes on where a connection broke,
            # and skips what is whole.
            hub.hf_hub_download(self.repository, file_name, revision=revision, local_dir=folder)
        except Exception as error:
            raise Failed(
                f"{file_name}: {type(error).__name__}: {error}. Run again to go on from here"
            ) from error
        actual = sha256_of(folder / file_name)
        expected = declared.lfs.sha256 if declared.lfs else actual
        if actual != expected:
            (folder / file_name).unlink()
            raise Failed(
                f"{file_name}: sha256 {actual}, the hub declares {expected}. Not kept; run again"
            )
        return actual


def import_hub() -> Any:
    # Read by huggingface_hub when it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(TIMEOUT_S))
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", str(TIMEOUT_S))
    try:
        import huggingface_hub
    except ImportError as error:
        raise Failed("huggingface_hub is missing: run this with .venv/bin/python") from error
    return huggingface_hub
