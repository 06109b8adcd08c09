import ctypes
import time
from pathlib import Path

from ..gguf_files import write_gguf
from ..models import ROOT, Model
from ..registry import Unavailable, program
from ..timing import elapsed_ms, per_token


@program(
    "llama.cpp", 3, language=["F32", "BF16", "Q8_0", "Q4_1"], packages=["llama-cpp-python"],
    compared={"BF16": ("bf16",), "Q8_0": ("int8",), "Q4_1": ("source",)},
)
class LlamaCpp:
    """F32, BF16 and Q8_0 files made here from the same weights, and the Q4_1 file itself; a sequence's state saved to a file
    and loaded (its keys and values are f16, its default)"""

    def __init__(self, model: Model, variant: str, scratch: Path, threads: int):
        import llama_cpp
        import numpy

        self.api, self.numpy = llama_cpp, numpy
        plain = scratch / "F32.gguf"
        if variant == "Q4_1":
            if not model.source.endswith(".gguf"):
                raise Unavailable("has no quantized file")
            plain = ROOT / model.source
        elif not plain.exists():
            write_gguf(ROOT / model.source, plain)
        path = plain
        if variant not in ("F32", "Q4_1"):
            path = scratch / f"{variant}.gguf"
            params = llama_cpp.llama_model_quantize_default_params()
            params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{variant}")
            if llama_cpp.llama_model_quantize(str(plain).encode(), str(path).encode(), params):
                raise RuntimeError(f"llama.cpp could not make {variant} of {plain}")
        self.llm = llama_cpp.Llama(
            str(path), n_ctx=model.cached + model.suffix, n_batch=512, n_threads=threads,
            n_threads_batch=threads, verbose=False,
        )
        self.state = str(scratch / f"{variant}.state").encode()

    def eval(self, tokens: list[int]) -> int:
        """The most likely next token."""
        self.llm.eval(tokens)
        logits = self.api.llama_get_logits_ith(self.llm.ctx, -1)
        return int(self.numpy.ctypeslib.as_array(logits, (self.llm.n_vocab(),)).argmax())

    def run(self, case: dict) -> dict:
        tokens, context = case["tokens"], self.llm.ctx
        self.llm.reset()
        if case["what"] != "recycled":
            start = time.perf_counter()
            last = token = self.eval(tokens)
            came = [elapsed_ms(start)]
            while len(came) < case["new_tokens"]:
                last = self.eval([last])
                came.append(elapsed_ms(start))
            return {"ttft": came[0], **per_token(came), "token": token}
        count = case["cached"]
        self.eval(tokens[:count])
        ids = (self.api.llama_token * count)(*tokens[:count])
        if not self.api.llama_state_seq_save_file(context, self.state, 0, ids, count):
            raise RuntimeError("llama.cpp could not save a sequence")
        self.llm.reset()
        self.api.llama_memory_clear(self.api.llama_get_memory(context), True)
        start = time.perf_counter()
        found = ctypes.c_size_t(0)
        if not self.api.llama_state_seq_load_file(context, self.state, 0, ids, count, found):
            raise RuntimeError("llama.cpp could not load a sequence")
        restore = elapsed_ms(start)
        self.llm.n_tokens = count
        token = self.eval(tokens[count:])
        return {"ttft": elapsed_ms(start), "restore": restore, "token": token}
