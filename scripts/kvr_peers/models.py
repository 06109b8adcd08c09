"""The models that programs are measured on, and what must be there before."""

from dataclasses import dataclass
from pathlib import Path

from .registry import asked_for

ROOT = Path(__file__).resolve().parents[2]
KVR = ROOT / "build/release/kvr"


@dataclass(frozen=True)
class Model:
    title: str
    archives: dict[str, str]  # precision: archive; the first is what others are compared with
    source: str
    how: str  # to get the source
    cached: int
    suffix: int


MODELS = {
    "smollm2": Model(
        "SmolLM2-135M-Instruct",
        {
            "fp32": "smollm2-fp32.pt", "bf16": "smollm2-bf16.pt", "int8": "smollm2-int8.pt",
            "source": "smollm2.pt",
        },
        "models/sources/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2", 1018, 19,
    ),
    "dialogpt-medium": Model(
        "DialoGPT-medium's shape, random weights",
        {
            "fp32": "dialogpt-medium-random.pt", "bf16": "dialogpt-medium-random-bf16.pt",
            "int8": "dialogpt-medium-random-int8.pt",
        },
        "models/sources/dialogpt-medium-random", "dialogpt-medium --random-weights", 900, 32,
    ),
}

ENCODER = "minilm"
ENCODER_TITLE = "all-MiniLM-L6-v2"
ENCODER_SOURCE = ROOT / "models/sources/minilm"
ENCODER_ARCHIVE = ROOT / "models/minilm.pt"


def what_is_missing(models: list[str], programs: list[str] | None) -> list[str]:
    """The commands that make it."""
    commands = []
    if not KVR.exists():
        commands.append("scripts/setup.sh")
    for name in models:
        wanted = MODELS.get(name) or MODELS["smollm2"]
        if not (ROOT / wanted.source).exists():
            commands.append(f".venv/bin/python scripts/get_models.py {wanted.how}")
        archives = wanted.archives if name in MODELS else {"fp32": wanted.archives["fp32"]}
        for precision, archive in archives.items():
            # fp32 also says what the tokens are.
            needed = precision == "fp32" or asked_for(f"kvr {precision}", programs)
            if needed and not (ROOT / "models" / archive).exists():
                commands.append(
                    f".venv/bin/python scripts/export_model.py {wanted.source} "
                    f"--precision {precision} --out models/{archive}"
                )
    if not (ENCODER_ARCHIVE.exists() and ENCODER_SOURCE.exists()):
        commands.append("scripts/setup.sh models")
    return list(dict.fromkeys(commands))
