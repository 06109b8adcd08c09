import time
from pathlib import Path

from ..models import ENCODER_SOURCE, Model
from ..registry import program
from ..timing import elapsed_ms


@program("ONNX Runtime", 6, encoder=[""], packages=["onnxruntime"])
class OnnxRuntime:
    def __init__(self, model: Model, variant: str, scratch: Path, threads: int):
        import onnxruntime
        import torch
        import transformers

        folder = str(ENCODER_SOURCE)

        class Hidden(torch.nn.Module):  # by keyword: the order differs between versions
            def __init__(self):
                super().__init__()
                self.bert = transformers.AutoModel.from_pretrained(
                    folder, attn_implementation="eager"
                )

            def forward(self, input_ids, attention_mask, token_type_ids):
                return self.bert(
                    input_ids=input_ids, attention_mask=attention_mask,
                    token_type_ids=token_type_ids,
                ).last_hidden_state

        self.words = transformers.AutoTokenizer.from_pretrained(folder)
        file = scratch / "minilm.onnx"
        names = ["input_ids", "attention_mask", "token_type_ids"]
        example = self.words("a few words", return_tensors="pt")
        torch.onnx.export(
            Hidden().eval(), tuple(example[name] for name in names), str(file), input_names=names,
            output_names=["hidden"], dynamic_axes={n: {1: "tokens"} for n in [*names, "hidden"]},
            dynamo=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )

    def run(self, case: dict) -> dict:
        import numpy

        start = time.perf_counter()
        inputs = dict(self.words(case["text"], return_tensors="np"))
        hidden = self.session.run(["hidden"], inputs)[0][0]
        mean = hidden.mean(axis=0)
        embedding = mean / numpy.linalg.norm(mean)
        ms = elapsed_ms(start)
        return {"embed": ms, "embedding": embedding.tolist()}
