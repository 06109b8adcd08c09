"""Qwen2: Llama with biases on queries, keys and values, which Llama's network takes as they come."""

from ..family import family
from .llama import Llama


@family("qwen2")
class Qwen2(Llama):
    title = "Qwen2, with GPT-2's tokenizer"
    # Where biases are is not for its configuration to say.
    keys = {k: v for k, v in Llama.keys.items() if k not in ("attention_bias", "mlp_bias")} | {
        "use_sliding_window": (False,), "layer_types": ("full_attention",),
    }
    ignored_keys = Llama.ignored_keys | {
        "sliding_window|max_window_layers": "of use only with use_sliding_window",
    }
    gguf = "qwen2"
    gguf_paired = {}  # llama.cpp leaves its rows in order
    tokenizer_class = "Qwen2Tokenizer"
