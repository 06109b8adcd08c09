import json
import subprocess
import tempfile
from pathlib import Path

from ..models import ENCODER_ARCHIVE, KVR, ROOT, Model
from ..registry import Unavailable, program


@program("kvr", 1, language=["fp32", "bf16", "int8", "source"], encoder=["fp32"], own_process=False)
class Kvr:
    """Runs as a process per case: it is warmed up, runs the case once unmeasured, then measured."""

    def __init__(self, model: Model, variant: str, scratch: Path, threads: int):
        if variant not in model.archives:
            raise Unavailable("has no quantized file to keep the numbers of")
        archive = str(ROOT / "models" / model.archives[variant])
        self.command = [
            str(KVR), "bench", "--cases", "-", "--json", "--repetitions", "1", "--threads",
            str(threads), "--model", archive, "--encoder", str(ENCODER_ARCHIVE),
        ]

    def run(self, case: dict) -> dict:
        # Its caches lie where the program's do: on the disk that holds the working folder.
        case = {key: value for key, value in case.items() if key not in ("other_tokens", "loops")}
        with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
            done = subprocess.run(
                [*self.command, "--cache", folder], input=json.dumps([case]), text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        if done.returncode != 0:
            raise RuntimeError(f"kvr bench ended with {done.returncode}: {done.stderr.strip()}")
        result = json.loads(done.stdout)["cases"][0]
        times = {name: values[0] for name, values in result["ms"].items() if values}
        if case["what"] == "embed":
            return {**times, "embedding": result["embedding"]}
        return {**times, "token": result["tokens"][0]}
