#!/usr/bin/env python3
"""Others that answer under one ARM, beside genarm and libllama in the same run: one table. See bench/peers.sh.

    peer_decode.py --genarm PROGRAM --model MODEL.gguf --arm ARM.gguf [--official FOLDER] [--official-python PYTHON]
                   [--peers NAME,...] [--tokens N] [--repetitions N]

hf-unguided     Hugging Face: a loop of forward passes with a KV cache, bf16
hf-two          the same, a pass of the base and a pass with the adapter for each token
hf-batch        the same, both as the two rows of a batch
llama-cpp-python            its generate(), unguided
llama-cpp-python-guided     the same with a logits processor that evaluates a second context with the adapter
official        the generation of the published GenARM code (a checkout in --official), bf16

All take the likeliest token but the official code, which samples. Each runs in a process of its own, which loads, answers
once to warm up, and then --repetitions times: the time to the first token, and tokens a second after it, as medians. genarm
is measured before and after them by `genarm bench`. What cannot be run is said, with the reason.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

PEERS = ("hf-unguided", "hf-two", "hf-batch", "llama-cpp-python", "llama-cpp-python-guided", "official")
PROMPT = ("A friend of mine keeps bees behind the house and has asked me to look after them for two weeks in May. I have never "
          "opened a hive, I do not own a veil, and I am a little afraid of being stung. What should I ask before I say yes, "
          "what will the bees need from me in that time, and what could go wrong?")
WARM_UP = 8


def threads():
    return len(os.sched_getaffinity(0))


def report(times, text=None):
    """times: of each repetition, the clock at its start and after each token. text: the answer, where it is the likeliest."""
    first = [1e3 * (t[1] - t[0]) for t in times]
    rates = [(len(t) - 2) / (t[-1] - t[1]) for t in times]
    print(json.dumps({"first_ms": statistics.median(first), "rate": statistics.median(rates),
                      "deviation": statistics.stdev(rates) if len(rates) > 1 else 0.0,
                      "text": text, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def repeat(answer, text, args):
    """answer(n) gives an iterable of n tokens, text(tokens) what they spell."""
    times = []
    for r in range(-1, args.repetitions):
        clock, tokens = [time.perf_counter()], []
        for token in answer(args.tokens if r >= 0 else WARM_UP):
            clock.append(time.perf_counter())
            tokens.append(token)
        if r >= 0:
            times.append(clock)
    report(times, text(tokens))


# ---- Hugging Face ----

def convert(args):
    """The GGUF model as a folder for transformers, also for versions of 2024; prints the tokens of the prompt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    import torch
    folder, name = os.path.split(os.path.abspath(args.model))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float16)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model.save_pretrained(args.hf)
    tokenizer.save_pretrained(args.hf)
    path = os.path.join(args.hf, "tokenizer.json")
    with open(path, encoding="utf-8") as f:
        data = json.load(f)
    data["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=False)
    print(json.dumps({"n_prompt": len(tokenizer(PROMPT)["input_ids"])}))


def add_lora(model, folder):
    """Puts the adapter on the model by hand: y = W x + on * scale * B A x, `on` being 0 or 1 for each row of a batch."""
    import torch
    from safetensors.torch import load_file
    with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as f:
        config = json.load(f)
    weights = load_file(os.path.join(folder, "adapter_model.safetensors"))
    switch = {"on": torch.zeros(1, 1, 1)}

    class Lora(torch.nn.Module):
        def __init__(self, base, a, b):
            super().__init__()
            self.base, self.a, self.b = base, a.to(base.weight.dtype).T.contiguous(), b.to(base.weight.dtype).T.contiguous()

        def forward(self, x):
            y = self.base(x)
            return y if switch["on"] is None else y + (x @ self.a) @ self.b * switch["on"].to(y.dtype)

    scale = config["lora_alpha"] / config["r"]
    for name in sorted({k.split(".lora_")[0] for k in weights}):
        parent, _, leaf = name.removeprefix("base_model.model.").rpartition(".")
        module = model.get_submodule(parent)
        setattr(module, leaf, Lora(getattr(module, leaf), weights[name + ".lora_A.weight"],
                                   weights[name + ".lora_B.weight"] * scale))
    return switch


def run_hf(args):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
    torch.set_num_threads(threads())
    model = AutoModelForCausalLM.from_pretrained(args.hf, dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.hf)
    prompt = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    switch = add_lora(model, args.peft)
    # What runs for a token: the adapter off or on in each row, None for a model without adapters.
    passes = {"hf-unguided": [None], "hf-two": [None, torch.ones(1, 1, 1)],
              "hf-batch": [torch.tensor([0.0, 1.0]).view(2, 1, 1)]}[args.child]

    def answer(n):
        caches = [DynamicCache() for _ in passes]
        ids = prompt
        for _ in range(n):
            logp = 0
            for on, cache in zip(passes, caches):
                switch["on"] = on
                rows = ids.expand(1 if on is None else on.shape[0], -1)
                logits = model(input_ids=rows, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
                logp = logp + logits.float().log_softmax(-1).sum(0)
            ids = logp.argmax().view(1, 1)
            yield ids.item()

    with torch.inference_mode():
        repeat(answer, tokenizer.decode, args)


# ---- llama-cpp-python ----

def run_llama(args):
    import numpy as np
    import llama_cpp
    common = {"model_path": args.model, "n_ctx": 1024, "n_threads": threads(), "n_threads_batch": threads(),
              "flash_attn": True, "verbose": False}  # as libllama has it by itself, but not this wrapper
    base = llama_cpp.Llama(**common)
    arm = llama_cpp.Llama(lora_path=args.arm, **common) if args.child.endswith("guided") else None
    tokens = base.tokenize(PROMPT.encode(), add_bos=False)

    def add_arm(ids, scores):
        arm.eval([int(i) for i in ids[arm.n_tokens:]])
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(arm._ctx.ctx, -1), shape=(arm.n_vocab(),))
        logits = logits - logits.max()
        return scores + logits - np.log(np.exp(logits).sum())

    def answer(n):
        base.reset()
        if arm:
            arm.reset()
        processors = llama_cpp.LogitsProcessorList([add_arm]) if arm else None
        stream = base.generate(tokens, temp=0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, logits_processor=processors)
        for _ in range(n):
            yield next(stream)

    repeat(answer, lambda ids: base.detokenize(ids).decode(errors="replace"), args)


# ---- the published code ----

def stand_in(name):
    """A module that generation does not use, only imported beside it."""
    from unittest.mock import MagicMock
    import importlib.machinery
    module = MagicMock()
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__path__ = []
    sys.modules[name] = module


def run_official(args):
    for name in ("trl", "pandas", "sklearn", "sklearn.model_selection", "sacrebleu", "sacrebleu.metrics", "rouge_score",
                 "googleapiclient", "dotenv", "fuzzywuzzy", "aiohttp"):
        try:
            __import__(name)
        except ImportError:
            stand_in(name)
    import torch
    from loguru import logger
    from transformers import AutoTokenizer
    logger.remove()
    torch.set_num_threads(threads())
    sys.path.insert(0, os.path.join(args.official, "language-model-arithmetic", "src"))
    from model_arithmetic import ModelArithmetic, PromptedLLM

    tokenizer = AutoTokenizer.from_pretrained(args.hf)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def llm(folder):  # as evaluation/PKU-SafeRLHF/generate_outputs_Beaver.py makes them
        return PromptedLLM(system_prompt="Not used", prompt_template=lambda system_prompt, input_string: input_string,
                           model=folder, tokenizer=tokenizer)

    model = ModelArithmetic(llm(args.hf) + 1.0 * llm(args.peft), needs_input_tokens_lm_eval=False, lm_eval_task=None)
    model.tokenizer.eos_token = "\0"  # it stops at this text: as many tokens as the others answer with
    step, clock = model.next_token_speculative, []

    def timed_step(*a, **k):
        result = step(*a, **k)
        clock.append(time.perf_counter())
        return result

    model.next_token_speculative = timed_step
    times = []
    for r in range(-1, args.repetitions):
        clock[:] = [time.perf_counter()]
        model.generate_text(PROMPT, max_new_tokens=args.tokens if r >= 0 else WARM_UP, batch_size=None, temperature=0.5,
                            top_p=1, top_k=0, do_speculation=False)
        if r >= 0:
            times.append(list(clock))
    report(times)


# ---- the run ----

def run_genarm(args, n_prompt):
    """{(contestant, n_arms): [t/s, deviation, ms to the first token, MiB, time ratio]}"""
    rows = {}
    for test in (("-p", str(n_prompt), "-n", "0"), ("-p", "0", "-n", str(args.tokens), "-d", str(n_prompt))):
        command = [args.genarm, "bench", "-m", args.model, "--arm", args.arm, "-r", str(args.repetitions), "-o", "json", *test]
        out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        for r in json.loads(out):
            row = rows.setdefault((r["contestant"], r["n_arms"]), {})
            row["mib"] = max(row.get("mib", 0), r["resident_bytes"] / 2**20)
            if r["n_gen"]:
                row.update(rate=r["median_ts"], deviation=r["stddev_ts"])
            else:
                row.update(first_ms=1e-6 * r["median_ns"])
    return rows


def genarm_answer(args):
    """The likeliest answer under the ARM."""
    command = [args.genarm, "generate", "-m", args.model, "--arm", args.arm, "--chat-template", "raw:{prompt}", "-p", PROMPT,
               "-n", str(args.tokens), "--temp", "0", "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["response"]


def agreement(name, text, answer):
    """How far two answers are the same: types and kernels round differently, and a near tie ends it."""
    same = len(os.path.commonprefix((text, answer)))
    return "%s: the answer is genarm's%s" % (name, "" if same == len(answer) else ", %d of %d characters" % (same, len(answer)))


def child(args, name, python):
    """(record, None) or (None, why not)"""
    command = [python, os.path.abspath(__file__), "--child", name, "--genarm", args.genarm, "--model", args.model, "--arm",
               args.arm, "--hf", args.hf, "--peft", args.peft, "--tokens", str(args.tokens), "--repetitions",
               str(args.repetitions), "--official", args.official or ""]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"})
    if result.returncode != 0:
        return None, (result.stderr.strip().splitlines() or ["status %d, without a message" % result.returncode])[-1]
    return json.loads(result.stdout.strip().splitlines()[-1]), None


def print_row(name, r, base):
    print("| %s | %.0f | %.2f ± %.2f | %.2fx | %.0f |"
          % (name, r["first_ms"], r["rate"], r["deviation"], base / r["rate"], r.get("mib", r.get("peak_mib", 0))), flush=True)


def run_all(args):
    subprocess.run([args.genarm, "convert", "-m", args.model, args.arm, "-o", args.peft, "--base-model", args.hf], check=True,
                   stdout=subprocess.DEVNULL)
    converted, why = child(args, "convert", sys.executable)
    if not converted:
        sys.exit("peer_decode: the model cannot be read by transformers: %s" % why)
    before = run_genarm(args, converted["n_prompt"])
    libllama = before[("libllama", 0)]["rate"]
    print("%s + 1 ARM, %d threads: a prompt of %d tokens, %d new ones, the median of %d times.\n"
          % (os.path.basename(args.model), threads(), converted["n_prompt"], args.tokens, args.repetitions))
    print("| | first token, ms | tokens/s after it | time / libllama's | MiB |\n|---|---:|---:|---:|---:|")
    print_row("libllama, unguided", before[("libllama", 0)], libllama)
    print_row("genarm, unguided", before[("genarm", 0)], libllama)
    print_row("genarm + 1 ARM", before[("genarm", 1)], libllama)
    notes, answer = [], genarm_answer(args)
    for name in args.peers:
        python = args.official_python or sys.executable if name == "official" else sys.executable
        r, why = child(args, name, python) if name != "official" or args.official else (None, "no checkout of it is named")
        if r:
            print_row(name, r, libllama)
            if r["text"] and name not in ("hf-unguided", "llama-cpp-python"):
                notes.append(agreement(name, r["text"], answer))
        else:
            notes.append("%s: not measured: %s" % (name, why))
    after = run_genarm(args, converted["n_prompt"])
    drift = after[("libllama", 0)]["rate"] / libllama - 1
    print_row("genarm + 1 ARM, once more", after[("genarm", 1)], after[("libllama", 0)]["rate"])
    print("\nlibllama gave %+.0f %% tokens/s after the run, of what it gave before." % (100 * drift))
    for line in notes:
        print(line)


def main():
    parser = argparse.ArgumentParser(description="Others that answer under one ARM, beside genarm and libllama")
    parser.add_argument("--genarm", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--arm", required=True)
    parser.add_argument("--official", help="a checkout of the published GenARM code")
    parser.add_argument("--official-python", help="the Python that has what it needs")
    parser.add_argument("--peers", default=",".join(PEERS), help="any of " + ", ".join(PEERS))
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=3)
    for name in ("--child", "--hf", "--peft"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        kind = args.child.split("-")[0]
        {"convert": convert, "hf": run_hf, "llama": run_llama, "official": run_official}[kind](args)
        return
    args.peers = args.peers.split(",")
    unknown = set(args.peers) - set(PEERS)
    if unknown or args.tokens < 3 or args.repetitions < 1:
        parser.error("unknown peer %s" % ", ".join(sorted(unknown)) if unknown else "--tokens must be 3 or more, and "
                     "--repetitions 1 or more")
    with tempfile.TemporaryDirectory() as work:
        args.hf, args.peft = os.path.join(work, "model"), os.path.join(work, "arm")
        run_all(args)


if __name__ == "__main__":
    main()
