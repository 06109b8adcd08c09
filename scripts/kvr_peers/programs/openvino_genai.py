import time
from pathlib import Path

from ..models import ROOT, Model
from ..registry import Unavailable, program
from ..timing import elapsed_ms


@program(
    "OpenVINO GenAI", 4, language=["its own", "f32"], packages=["openvino-genai"],
    compared={"its own": ("int8", "source")},
)
class OpenVino:
    """the 4-bit GGUF, computed in the precision that it chooses or in f32; prefix caching in memory
    (it reads Llama files, not GPT-2's)"""

    def __init__(self, model: Model, variant: str, scratch: Path, threads: int):
        import openvino
        import openvino_genai

        if not model.source.endswith(".gguf"):
            raise Unavailable("reads no GPT-2 from GGUF")
        self.api, self.tensor = openvino_genai, openvino.Tensor
        self.pipes = {}
        # Left to itself it quantizes activations and the saved keys and values.
        plain = {
            "INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        options = plain if variant == "f32" else {}
        for caching in [False, True]:
            scheduler = openvino_genai.SchedulerConfig()
            scheduler.enable_prefix_caching = caching
            scheduler.max_num_batched_tokens = 2048  # the whole prompt in one piece
            scheduler.cache_size = 1
            self.pipes[caching] = openvino_genai.LLMPipeline(
                str(ROOT / model.source), "CPU", scheduler_config=scheduler,
                INFERENCE_NUM_THREADS=threads, **options,
            )

    def generate(self, caching: bool, tokens: list[int], new_tokens: int):
        import numpy

        ids = numpy.array([tokens], dtype=numpy.int64)
        config = self.api.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = new_tokens
        config.ignore_eos = True
        config.do_sample = False
        config.apply_chat_template = False
        inputs = self.api.TokenizedInputs(self.tensor(ids), self.tensor(numpy.ones_like(ids)))
        start = time.perf_counter()
        out = self.pipes[caching].generate(inputs, config)
        return out, elapsed_ms(start)

    def run(self, case: dict) -> dict:
        tokens = case["tokens"]
        if case["what"] == "recycled":
            self.generate(True, tokens[: case["cached"]], 1)
            out, ms = self.generate(True, tokens, 1)
            return {"ttft": ms, "token": int(out.tokens[0][0])}
        out, ms = self.generate(False, tokens, case["new_tokens"])
        result = {"ttft": ms, "token": int(out.tokens[0][0])}
        if case["new_tokens"] > 1:
            result["ttft"] = out.perf_metrics.get_ttft().mean
            result["decode"] = (ms - result["ttft"]) / (case["new_tokens"] - 1)
        return result
