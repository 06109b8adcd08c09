#!/usr/bin/env python3
"""Times kvr beside other programs: same model, same token ids, same threads, taking turns.

  transformers   the paper's way: a DynamicCache saved by torch.save, loaded, passed to generate
  llama.cpp      F32, BF16 and Q8_0 files made here from the same weights; a sequence's state saved to
                 a file and loaded (its keys and values are f16, its default)
  OpenVINO GenAI the 4-bit GGUF, computed in the precision that it chooses or in f32; prefix caching in
                 memory (it reads Llama files, not GPT-2's)
  sentence-transformers, ONNX Runtime   for the sentence encoder

Each program has a process of its own, which sleeps while another one is measured. In each round
every case is run by every program, in an order that turns with the round. Each run follows one of the
same shape that is not measured; what is recycled has another suffix of new tokens each time, so that
none has been seen. Nothing is left out: a program that can't run is named with its reason.

With --busy the cases are other ones: 417 tokens and 24 behind them, quiet and beside that many
processes which do nothing but compute, and what share of its own quiet speed each program keeps.

Needs what scripts/requirements-peers.txt lists, in an environment of its own; llama.cpp is optional.
Its binding runs with its defaults, flash attention off.

examples:
  .venv-peers/bin/python scripts/bench_peers.py --out results/peers
  .venv-peers/bin/python scripts/bench_peers.py smollm2 --rounds 3 --programs kvr,transformers
  .venv-peers/bin/python scripts/bench_peers.py smollm2 --busy 1,2,4 --out results/peers-busy
  .venv-peers/bin/python scripts/bench_peers.py --render results/peers/peers.json

Writes peers.json, with every sample, and peers.md, the tables; the tables also go to stdout.
exit codes: 0 done; 2 bad usage; 3 a model is missing; 4 something else is
"""

import argparse
import contextlib
import ctypes
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KVR = ROOT / "build/release/kvr"
PAUSE_S = 0.3  # lets the threads of the last program go to sleep
TEXT = (
    "How do I reset the password of my account when I no longer have the phone that I used to "
    "register with, and nobody answers?"
)


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
        {"fp32": "smollm2.pt", "bf16": "smollm2-bf16.pt", "int8": "smollm2-int8.pt"},
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


class Unavailable(Exception):
    """A program that can't take part; the message says why."""


def elapsed_ms(start: float) -> float:
    return (time.perf_counter() - start) * 1e3


# The programs. run(case) returns {"ttft": ms} and, by case, "decode" (ms per token after the first),
# "restore", "embed"; and "token", the first new one, or "embedding".


class Kvr:
    """Runs as a process per case: it is warmed up, runs the case once unmeasured, then measured."""

    def __init__(self, archive: str, threads: int):
        self.command = [
            str(KVR), "bench", "--cases", "-", "--json", "--repetitions", "1", "--threads",
            str(threads), "--model", archive, "--encoder", str(ROOT / "models/minilm.pt"),
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


class Transformers:
    def __init__(self, model: Model, scratch: Path, threads: int):
        import torch
        import transformers

        sys.path.insert(0, str(ROOT / "scripts"))
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


class LlamaCpp:
    def __init__(self, model: Model, scratch: Path, threads: int, kind: str):
        import llama_cpp
        import numpy

        self.api, self.numpy = llama_cpp, numpy
        plain = scratch / "F32.gguf"
        if not plain.exists():
            write_gguf(ROOT / model.source, plain)
        path = plain
        if kind != "F32":
            path = scratch / f"{kind}.gguf"
            params = llama_cpp.llama_model_quantize_default_params()
            params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
            if llama_cpp.llama_model_quantize(str(plain).encode(), str(path).encode(), params):
                raise RuntimeError(f"llama.cpp could not make {kind} of {plain}")
        self.llm = llama_cpp.Llama(
            str(path), n_ctx=model.cached + model.suffix, n_batch=512, n_threads=threads,
            n_threads_batch=threads, verbose=False,
        )
        self.state = str(scratch / f"{kind}.state").encode()

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


class OpenVino:
    def __init__(self, model: Model, threads: int, precision: str):
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
        options = plain if precision == "f32" else {}
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


class SentenceTransformers:
    def __init__(self, threads: int):
        import sentence_transformers
        import torch

        torch.set_num_threads(threads)
        self.model = sentence_transformers.SentenceTransformer(
            str(ROOT / "models/sources/minilm"), device="cpu"
        )

    def run(self, case: dict) -> dict:
        start = time.perf_counter()
        embedding = self.model.encode(case["text"], normalize_embeddings=True)
        ms = elapsed_ms(start)
        return {"embed": ms, "embedding": embedding.tolist()}


class OnnxRuntime:
    def __init__(self, scratch: Path, threads: int):
        import onnxruntime
        import torch
        import transformers

        folder = str(ROOT / "models/sources/minilm")

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


def per_token(came: list[float]) -> dict:
    return {"decode": (came[-1] - came[0]) / (len(came) - 1)} if len(came) > 1 else {}


# GGUF files in fp32, for llama.cpp.


def write_gguf(source: Path, out: Path) -> None:
    partial = out.with_suffix(".partial")
    (copy_gguf if source.is_file() else write_gpt2_gguf)(source, partial)
    os.replace(partial, out)


def finish_gguf(writer) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def copy_gguf(source: Path, out: Path) -> None:
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    own = {"general.architecture", "general.file_type", "general.quantization_version"}
    for field in reader.fields.values():
        if field.name in own or field.name.startswith("GGUF."):
            continue
        of = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=of)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    finish_gguf(writer)


def write_gpt2_gguf(source: Path, out: Path) -> None:
    import gguf
    import torch

    config = json.loads((source / "config.json").read_text())
    weights = torch.load(source / "pytorch_model.bin", weights_only=True, map_location="cpu")
    weights = {name.removeprefix("transformer."): w.float() for name, w in weights.items()}
    words = json.loads((source / "vocab.json").read_text())
    merges = (source / "merges.txt").read_text().splitlines()
    writer = gguf.GGUFWriter(out, "gpt2")
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    pieces = sorted(words, key=words.__getitem__)
    writer.add_token_list(pieces)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(pieces))
    writer.add_token_merges([m for m in merges if m and not m.startswith("#version")])
    writer.add_eos_token_id(config["eos_token_id"])
    parts = {
        "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
        "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    }
    names = {"wte.weight": "token_embd.weight", "wpe.weight": "position_embd.weight"}
    for end in ["weight", "bias"]:
        names[f"ln_f.{end}"] = f"output_norm.{end}"
        for layer in range(config["n_layer"]):
            for part, name in parts.items():
                names[f"h.{layer}.{part}.{end}"] = f"blk.{layer}.{name}.{end}"
    for ours, theirs in names.items():
        weight = weights[ours]
        if ".c_" in ours and weight.dim() == 2:  # Conv1D: [in, out]
            weight = weight.t()
        writer.add_tensor(theirs, weight.contiguous().numpy())
    writer.add_tensor("output.weight", weights["wte.weight"].contiguous().numpy())
    finish_gguf(writer)


# Processes.


def first_line(error: Exception) -> str:
    """Some libraries put whole tensors into their messages."""
    return (str(error).splitlines() or [""])[0][:300]


def serve(connection, make, arguments) -> None:
    """In a process of its own: makes the program, then runs cases as they come."""
    # Libraries that talk on stdout talk on stderr instead.
    os.dup2(2, 1)
    try:
        program = make(*arguments)
        connection.send({"ready": True})
        while (case := connection.recv()) is not None:
            warm_up = {**case, "tokens": case["other_tokens"]} if "other_tokens" in case else case
            program.run(warm_up)
            connection.send(program.run(case))
    except (ImportError, Unavailable) as reason:
        connection.send({"unavailable": first_line(reason)})
    except Exception as error:
        connection.send({"failed": f"{type(error).__name__}: {first_line(error)}"})


class Remote:
    def __init__(self, make, *arguments):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, make, arguments), daemon=True)
        self.process.start()
        theirs.close()
        self.receive()

    def receive(self) -> dict:
        try:
            answer = self.connection.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(f"the process ended with {self.process.exitcode}") from None
        if "unavailable" in answer:
            raise Unavailable(answer["unavailable"])
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer

    def run(self, case: dict) -> dict:
        self.connection.send(case)
        return self.receive()

    def close(self) -> None:
        self.connection.send(None)
        self.process.join()


# Measuring.


def say(message: str) -> None:
    print(f"bench_peers.py: {message}", file=sys.stderr, flush=True)


def real_tokens(archive: str, count: int) -> list[int]:
    """Ids of the project's own prompts."""
    lines = (ROOT / "configs/prompts/paper_cache.jsonl").read_text().splitlines()
    lines += (ROOT / "configs/prompts/paper_test.jsonl").read_text().splitlines()
    text = "\n\n".join(json.loads(line)["text"] for line in lines)
    done = subprocess.run(
        [str(KVR), "tokenize", "--model", archive, "--json", "-"], input=text, text=True,
        stdout=subprocess.PIPE, check=True,
    )
    ids = json.loads(done.stdout)
    ids = ids["ids"] if isinstance(ids, dict) else ids
    if len(ids) < count:
        raise RuntimeError(f"the prompts have {len(ids)} tokens, needed are {count}")
    return ids


def language_cases(model: Model, ids: list[int], turn: int) -> dict[str, dict]:
    """By name. The suffix is another one in each round, so that no program has seen it."""
    def prompt(suffix: int) -> list[int]:
        at = model.cached + model.suffix * suffix
        return ids[: model.cached] + ids[at : at + model.suffix]

    return {
        "prefill": {"what": "prefill", "tokens": ids[:512], "new_tokens": 1},
        "decode_16": {"what": "decode", "tokens": ids[:16], "new_tokens": 17},
        "decode_900": {"what": "decode", "tokens": ids[:900], "new_tokens": 17},
        "baseline": {"what": "prefill", "tokens": prompt(2 * turn + 1), "new_tokens": 1},
        "recycled": {
            "what": "recycled", "tokens": prompt(2 * turn + 1), "other_tokens": prompt(2 * turn),
            "cached": model.cached, "new_tokens": 1,
        },
    }


def busy_cases(ids: list[int], loops: list[int]) -> dict[str, dict]:
    """One tells both speeds: the first token's time, and the time of each further one."""
    return {
        f"beside {count}": {
            "what": "decode", "tokens": ids[:417], "new_tokens": 25, "loops": count,
        }
        for count in [0, *loops]
    }


@contextlib.contextmanager
def busy_loops(count: int):
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()


def take_turns(programs: dict, cases_of, rounds: int, title: str, skipped: list[dict]) -> dict:
    """{program: {case: [one result a round]}}. A program that fails is left out from there on."""
    samples = {name: {} for name in programs}
    order = list(programs)
    for turn in range(rounds):
        for case_name, case in cases_of(turn).items():
            for name in order[turn % len(order) :] + order[: turn % len(order)]:
                if name not in programs:
                    continue
                say(f"{title}: round {turn + 1} of {rounds}, {case_name}, {name}")
                time.sleep(PAUSE_S)
                try:
                    with busy_loops(case.get("loops", 0)):
                        result = programs[name].run(case)
                except RuntimeError as error:
                    say(f"{title}: FAILED: {name}: {error}")
                    skipped.append({"model": title, "program": name, "reason": str(error)})
                    del programs[name], samples[name]
                    continue
                samples[name].setdefault(case_name, []).append(result)
    return samples


def asked_for(program: str, wanted: list[str] | None) -> bool:
    return not wanted or any(program == w or program.startswith(w + " ") for w in wanted)


def start(makers: dict, wanted: list[str] | None, skipped: list[dict], title: str) -> dict:
    programs = {}
    for name, make in makers.items():
        if not asked_for(name, wanted):
            continue
        say(f"{title}: starting {name}")
        try:
            programs[name] = make()
        except (Unavailable, RuntimeError) as reason:
            say(f"{title}: SKIPPED: {name}: {reason}")
            skipped.append({"model": title, "program": name, "reason": str(reason)})
    return programs


def measure_language(name: str, args, skipped: list[dict]) -> dict:
    model = MODELS[name]
    archives = {p: str(ROOT / "models" / file) for p, file in model.archives.items()}
    with tempfile.TemporaryDirectory(prefix="kvr-peers-") as folder:
        scratch = Path(folder)
        makers = {f"kvr {p}": lambda a=a: Kvr(a, args.threads) for p, a in archives.items()}
        makers["transformers fp32"] = lambda: Remote(Transformers, model, scratch, args.threads)
        for kind in ["F32", "BF16", "Q8_0"]:
            makers[f"llama.cpp {kind}"] = lambda kind=kind: Remote(
                LlamaCpp, model, scratch, args.threads, kind
            )
        for kind in ["its own", "f32"]:
            makers[f"OpenVINO GenAI {kind}"] = lambda kind=kind: Remote(
                OpenVino, model, args.threads, kind
            )
        programs = start(makers, args.programs, skipped, model.title)
        ids = real_tokens(archives["fp32"], model.cached + model.suffix * 2 * args.rounds)
        samples = take_turns(
            programs,
            lambda turn: busy_cases(ids, args.busy) if args.busy
            else language_cases(model, ids, turn),
            args.rounds, model.title, skipped,
        )
        for program in programs.values():
            if isinstance(program, Remote):
                program.close()
    return {
        "title": model.title, "cached": model.cached, "suffix": model.suffix, "samples": samples,
    }


def measure_encoder(args, skipped: list[dict]) -> dict:
    title = "all-MiniLM-L6-v2"
    with tempfile.TemporaryDirectory(prefix="kvr-peers-") as folder:
        makers = {
            "kvr fp32": lambda: Kvr(str(ROOT / "models/smollm2.pt"), args.threads),
            "sentence-transformers": lambda: Remote(SentenceTransformers, args.threads),
            "ONNX Runtime": lambda: Remote(OnnxRuntime, Path(folder), args.threads),
        }
        programs = start(makers, args.programs, skipped, title)
        case = {"embed": {"what": "embed", "text": TEXT}}
        samples = take_turns(programs, lambda turn: case, 5 * args.rounds, title, skipped)
        for program in programs.values():
            if isinstance(program, Remote):
                program.close()
    return {"title": title, "samples": samples}


# Tables.


def spread(values: list[float], digits: int = 1) -> str:
    """Median (least to greatest)."""
    if not values:
        return "-"
    return (
        f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to "
        f"{max(values):.{digits}f})"
    )


def row_of(model: dict, found: dict, reference: dict | None) -> list[str]:
    def times(case: str, what: str) -> list[float]:
        return [r[what] for r in found.get(case, []) if what in r]

    baseline, recycled = times("baseline", "ttft"), times("recycled", "ttft")
    tokens = [r["token"] for r in found.get("recycled", [])]
    own = [r["token"] for r in found.get("baseline", [])]
    expected = [r["token"] for r in reference.get("baseline", [])] if reference else []
    same = f"{sum(a == b for a, b in zip(tokens, own))} of {len(own)}"
    known = f"{sum(a == b for a, b in zip(own, expected))} of {len(expected)}" if expected else "-"
    return [
        spread([512e3 / t for t in times("prefill", "ttft")], 0),
        spread([1e3 / t for t in times("decode_16", "decode")]),
        spread([1e3 / t for t in times("decode_900", "decode")]),
        spread(baseline, 0), spread(recycled), spread(times("recycled", "restore")),
        spread([b / r for b, r in zip(baseline, recycled)]), same, known,
    ]


def ratios(found: dict, ours: dict, against: str) -> list[str]:
    """Their time over ours, round by round: above 1, ours is the faster."""
    def pairs(case: str, what: str) -> list[float]:
        return [
            theirs[what] / mine[what]
            for theirs, mine in zip(found.get(case, []), ours.get(case, []))
            if what in theirs and what in mine
        ]

    columns = [
        ("prefill", "ttft"), ("decode_16", "decode"), ("decode_900", "decode"),
        ("baseline", "ttft"), ("recycled", "ttft"),
    ]
    return [against, *(spread(pairs(*column), 2) for column in columns)]


def busy_row(found: dict, loops: list[int], speed) -> list[str]:
    """The quiet speed, and what share of it is left beside each number of loops, of each round."""
    quiet = [speed(result) for result in found["beside 0"]]
    return [spread(quiet)] + [
        spread([speed(r) / q for r, q in zip(found[f"beside {count}"], quiet)], 2) for count in loops
    ]


def render_busy(samples: dict, loops: list[int], threads: int) -> str:
    # As in `kvr bench --busy`; the loops of this script know no more of cores than it does.
    fair = [f"{min(1, os.cpu_count() / (threads + count)):.2f}" for count in loops]
    out = ""
    for title, speed in [
        ("Prefill of 417 tokens", lambda r: 417e3 / r["ttft"]),
        ("Decoding of 24 tokens behind them", lambda r: 1e3 / r["decode"]),
    ]:
        rows = [
            [name, *busy_row(found, loops, speed)]
            for name, found in samples.items()
            if len(found) > len(loops)
        ]
        head = [f"{title}", "quiet, tok/s", *(f"share left beside {count}" for count in loops)]
        out += table(head, [*rows, ["fair share", "", *fair]]) + "\n"
    return out


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n"


def render(result: dict) -> str:
    at = result["environment"]
    out = (
        f"{at['cpu']}, {result['threads']} threads; medians (least to greatest) of "
        f"{result['rounds']} rounds, five times as many for the encoder; commit {at['commit']}. "
        + ", ".join(f"{name} {version}" for name, version in at["versions"].items()) + ".\n"
    )
    for model in result["models"]:
        samples = model["samples"]
        out += f"\n### {model['title']}\n\n"
        if model["title"].startswith("all-MiniLM"):
            first = next(iter(samples.values()))["embed"]
            rows = []
            for name, found in samples.items():
                cosine = sum(
                    a * b for a, b in zip(found["embed"][0]["embedding"], first[0]["embedding"])
                )
                pairs = [a["embed"] / b["embed"] for a, b in zip(found["embed"], first)]
                times = [r["embed"] for r in found["embed"]]
                rows.append([name, spread(times, 2), spread(pairs, 2), f"{cosine:.6f}"])
            out += table(["program", "text to embedding, ms", "over kvr's", "cosine with kvr's"], rows)
            continue
        if result.get("busy"):
            out += render_busy(samples, result["busy"], result["threads"])
            continue
        where = f"{model['cached']} + {model['suffix']}"
        head = [
            "program", "prefill 512, tok/s", "decode at 16, tok/s", "decode at 900, tok/s",
            f"TTFT {where}, baseline, ms", "recycled, ms", "of it restore, ms", "speedup",
            "recycled token as baseline's", "baseline token as transformers'",
        ]
        reference = samples.get("transformers fp32")
        out += table(head, [[n, *row_of(model, f, reference)] for n, f in samples.items()])
        out += "\nTheir time over kvr's, round by round (above 1: kvr is the faster):\n\n"
        against = [(n, "kvr fp32") for n in samples if not n.startswith("kvr")]
        against += [("llama.cpp BF16", "kvr bf16"), ("llama.cpp Q8_0", "kvr int8")]
        out += table(
            ["program", "against", "prefill", "decode at 16", "decode at 900", "baseline", "recycled"],
            [
                [theirs, *ratios(samples[theirs], samples[ours], ours)]
                for theirs, ours in against
                if theirs in samples and ours in samples
            ],
        )
    for item in result["skipped"]:
        out += f"\nNot measured: {item['program']} on {item['model']}: {item['reason']}.\n"
    return out


def environment() -> dict:
    from importlib import metadata

    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    versions = {}
    for package in [
        "torch", "transformers", "llama-cpp-python", "openvino-genai", "sentence-transformers",
        "onnxruntime",
    ]:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"],
        stdout=subprocess.PIPE, text=True,
    ).stdout.strip()
    return {"cpu": cpu, "versions": versions, "commit": commit or "unknown"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*MODELS, "minilm"]
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every program (all)")
    parser.add_argument("--programs", type=lambda s: s.split(","), help="only these, by name")
    parser.add_argument(
        "--busy", type=lambda s: [int(count) for count in s.split(",")],
        help="beside this many busy processes each: 1,2,4",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results/peers", help="folder to write")
    parser.add_argument("--render", type=Path, help="print the tables of an earlier peers.json")
    args = parser.parse_args()
    if args.render:
        print(render(json.loads(args.render.read_text())), end="")
        return 0
    models = args.models or (list(MODELS) if args.busy else names)
    for name in models:
        if name not in names:
            parser.error(f"model: found {name}, expected some of {', '.join(names)}")
    if args.busy and (min(args.busy) < 1 or "minilm" in models):
        parser.error("--busy: expected counts of 1 or more, and language models")
    if args.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    if missing := what_is_missing(models, args.programs):
        say("missing; make it with:\n  " + "\n  ".join(missing))
        return 3

    args.out.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    result = {
        "environment": environment(), "rounds": args.rounds, "threads": args.threads, "busy": args.busy,
        "models": [], "skipped": [],
    }
    for name in models:
        try:
            measured = (
                measure_encoder(args, result["skipped"]) if name == "minilm"
                else measure_language(name, args, result["skipped"])
            )
        except RuntimeError as error:
            say(f"{name}: {error}")
            return 4
        result["models"].append(measured)
        # After each model, so that a failure of the next loses nothing.
        (args.out / "peers.json").write_text(json.dumps(result))
        (args.out / "peers.md").write_text(render(result))
    print(render(result), end="")
    say(f"wrote {args.out}/peers.json and peers.md")
    return 0


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
    if not all((ROOT / path).exists() for path in ["models/minilm.pt", "models/sources/minilm"]):
        commands.append("scripts/setup.sh models")
    return list(dict.fromkeys(commands))


if __name__ == "__main__":
    sys.exit(main())
