import time
from pathlib import Path

from ..models import ROOT, Model
from ..registry import program
from ..timing import elapsed_ms, per_token


@program("transformers", 2, language=["fp32"], packages=["torch", "transformers"])
class Transformers:
    """the paper's way: a DynamicCache saved by torch.save, loaded, passed to generate"""

    def __init__(self, model: Model, variant: str, scratch: Path, threads: int):
        import torch
        import transformers

        from kvr_export import sources

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self.torch, self.cache_type = torch, transformers.DynamicCache
        self.model = sources.find(str(ROOT / model.source), None, False, 0).load()
        self.file = scratch / "transformers-cache.pt"

    def generate(self, tokens: list[int], new_tokens: int, past=None) -> tuple[int, list[float]]:
        """The first new token, and when each came."""
        start, came = time.perf_counter(), []

        class Clock:
            def put(self, value):
                came.append(elapsed_ms(start))

            def end(self):
                pass

        ids = self.torch.tensor([tokens])
        out = self.model.generate(
            ids, attention_mask=self.torch.ones_like(ids), max_new_tokens=new_tokens,
            min_new_tokens=new_tokens, do_sample=False, past_key_values=past, streamer=Clock(),
            pad_token_id=0,
        )
        return int(out[0, len(tokens)]), came[1:]  # the prompt is put first

    def run(self, case: dict) -> dict:
        with self.torch.inference_mode():
            if case["what"] != "recycled":
                token, came = self.generate(case["tokens"], case["new_tokens"])
                return {"ttft": came[0], **per_token(came), "token": token}
            cache = self.cache_type()
            self.model(self.torch.tensor([case["tokens"][: case["cached"]]]), past_key_values=cache)
            self.torch.save(cache, self.file)
            del cache
            start = time.perf_counter()
            past = self.torch.load(self.file, weights_only=False)
            restore = elapsed_ms(start)
            token, came = self.generate(case["tokens"], 1, past)
            return {"ttft": restore + came[0], "restore": restore, "token": token}
