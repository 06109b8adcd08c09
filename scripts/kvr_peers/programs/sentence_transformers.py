import time
from pathlib import Path

from ..models import ENCODER_SOURCE, Model
from ..registry import program
from ..timing import elapsed_ms


@program("sentence-transformers", 5, encoder=[""], packages=["sentence-transformers"])
class SentenceTransformers:
    def __init__(self, model: Model, variant: str, scratch: Path, threads: int):
        import sentence_transformers
        import torch

        torch.set_num_threads(threads)
        self.model = sentence_transformers.SentenceTransformer(
            str(ENCODER_SOURCE), device="cpu"
        )

    def run(self, case: dict) -> dict:
        start = time.perf_counter()
        embedding = self.model.encode(case["text"], normalize_embeddings=True)
        ms = elapsed_ms(start)
        return {"embed": ms, "embedding": embedding.tolist()}
