#!/usr/bin/env python3
"""Makes the golden files: tiny random models, and what PyTorch computes with them.

The reference is Hugging Face's own model classes (eager attention, float64), not a second
implementation of ours: logits, preference losses, gradients of every LoRA matrix and ten
AdamW steps; golden_losses.py adds the losses with a reference model or a scalar head,
golden_rl.py reinforcement learning, golden_conditioned.py an adapter that depends on a
preference among objectives.
tests/golden/README.md describes every file, tensor and metadata key.

    python3 -m venv VENV && VENV/bin/pip install -r scripts/requirements-golden.txt
    VENV/bin/python scripts/make_golden.py [--check] [--output FOLDER]

--check then repeats the training in float32, to show how far rounding alone moves it, and
compares libllama with the files (golden_check.py).
"""

import argparse
import dataclasses
import math
import pathlib
import re
import sys

import gguf
import numpy as np
import torch
import transformers
from torch.nn.functional import logsigmoid

N_VOCAB = 301
BOS, EOS = 0, 2
N_CONTEXT = 256
ALL_TARGETS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
# (name, beta, learning rate): clipped at the first step or two; clipped at every step
BETAS = (("beta0.05", 0.05, 1e-2), ("beta1", 1.0, 1e-3))
N_STEPS = 10
WEIGHT_DECAY = 0.05
PAIR_LENGTHS = ((7, 6, 8), (5, 9, 3), (9, 4, 7))  # prompt, chosen, rejected
SEQUENCE_LENGTHS = ((5, 12), (17, 12))  # prompt, continuation

# ---- vocabulary --------------------------------------------------------------

MERGES = (
    "Ġ t|h e|Ġt he|i n|e r|a n|Ġ a|r e|o n|n d|Ġa nd|o u|Ġ s|i s|Ġ w|a t|e n|Ġ o|o r|Ġ b|i t|"
    "Ġ c|Ġ f|l l|Ġ h|Ġ i|in g|e s|Ġ p|a r|e d|Ġ m|a s|l e|Ġ d|y ou|l o|h i|Ġ n|s t|Ġ e|Ġ l"
).split("|")
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_names():
    """The printable characters by which GPT-2's byte-level BPE writes the bytes 0..255."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256)]


def vocabulary(n_padding=0, replaced=()):
    """Returns (tokens, types, merges); `replaced` holds (merge, other merge) pairs."""
    other = dict(replaced)
    merges = [other.get(merge, merge) for merge in MERGES]
    tokens = [*SPECIALS, *byte_names(), *(merge.replace(" ", "") for merge in merges)]
    assert len(tokens) == len(set(tokens)) == N_VOCAB
    types = [gguf.TokenType.CONTROL] * len(SPECIALS)
    types += [gguf.TokenType.NORMAL] * (N_VOCAB - len(SPECIALS))
    tokens += [f"[PAD{N_VOCAB + i}]" for i in range(n_padding)]
    types += [gguf.TokenType.UNUSED] * n_padding
    return tokens, types, merges


# ---- models ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Spec:
    """One model: `config` goes to Hugging Face's configuration class as it is."""

    name: str
    family: str  # Hugging Face's prefix: Llama, Mistral, Qwen2, Qwen3
    seed: int
    config: dict
    training: bool = False
    second_adapter: bool = False

    @property
    def arch(self):
        return {"Qwen2": "qwen2", "Qwen3": "qwen3"}.get(self.family, "llama")

    @property
    def interleaved(self):
        """Whether rope rotates neighbouring rows in GGUF (and halves in Hugging Face)."""
        return self.arch == "llama"

    @property
    def scaling(self):
        """Hugging Face's rope_scaling, empty where there is none."""
        return self.config.get("rope_scaling", {})

    def hf_config(self):
        shape = dict(
            vocab_size=N_VOCAB, hidden_size=64, intermediate_size=160, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, hidden_act="silu",
            max_position_embeddings=N_CONTEXT, rms_norm_eps=1e-5, rope_theta=10000.0,
            tie_word_embeddings=True, bos_token_id=BOS, eos_token_id=EOS,
            attn_implementation="eager",
        )
        return getattr(transformers, f"{self.family}Config")(**{**shape, **self.config})


SPECS = (
    Spec("llama", "Llama", 1, {}, training=True, second_adapter=True),
    Spec("llama-linear", "Llama", 2, dict(
        intermediate_size=96, tie_word_embeddings=False,
        rope_scaling=dict(rope_type="linear", factor=4.0))),
    Spec("llama3", "Llama", 3, dict(intermediate_size=96, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=64))),
    Spec("llama-yarn", "Llama", 4, dict(intermediate_size=96, rope_scaling=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=64))),
    Spec("mistral", "Mistral", 5, dict(
        head_dim=32, tie_word_embeddings=False, sliding_window=None), training=True),
    Spec("qwen2", "Qwen2", 6, dict(
        hidden_size=96, num_attention_heads=6, rms_norm_eps=1e-6, rope_theta=1000000.0),
        training=True),
    Spec("qwen3", "Qwen3", 7, dict(
        intermediate_size=96, num_hidden_layers=3, head_dim=32, rms_norm_eps=1e-6,
        rope_theta=1000000.0),
        training=True),
)


def exact_in_half(x):
    """Rounds to 8 significant bits and flushes what F16 cannot hold: exact in F16 and BF16."""
    mantissa, exponent = np.frexp(x)
    x = np.ldexp(np.round(mantissa * 256) / 256, exponent)
    x = np.where(np.abs(x) < 2.0**-16, 0.0, x).astype(np.float32)
    assert np.array_equal(x, x.astype(np.float16))
    assert torch.equal(torch.from_numpy(x), torch.from_numpy(x).bfloat16().float())
    return x


def random_weights(spec, model):
    """Name -> array for every parameter of `model`; logits get a standard deviation near 2."""
    rng = np.random.default_rng(spec.seed)
    weights = {}
    for name, parameter in model.named_parameters():  # a tied head is listed once
        noise = rng.standard_normal(parameter.shape)
        if name.endswith("norm.weight"):
            noise = 1.0 + 0.2 * noise
        elif name.endswith("bias"):
            noise = 0.3 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            noise = 2.0 / math.sqrt(parameter.shape[1]) * noise
        else:
            gain = 1.5 if "q_proj" in name or "k_proj" in name else 1.0
            noise = gain / math.sqrt(parameter.shape[1]) * noise
        weights[name] = exact_in_half(noise)
    return weights


def empty_model(spec, dtype):
    config = spec.hf_config()
    return getattr(transformers, f"{spec.family}ForCausalLM")(config).to(dtype).eval()


class Lora(torch.nn.Module):
    """y = W x + (alpha / rank) B A x, with A [rank, n_in] and B [n_out, rank]."""

    def __init__(self, linear, a, b, scale):
        super().__init__()
        dtype = linear.weight.dtype
        self.linear, self.scale = linear, scale
        self.a = torch.nn.Parameter(torch.tensor(a, dtype=dtype))
        self.b = torch.nn.Parameter(torch.tensor(b, dtype=dtype))

    def forward(self, x):
        return self.linear(x) + self.scale * (x @ self.a.T @ self.b.T)


def build(spec, weights, adapter=None, dtype=torch.float64):
    """A frozen model with its adapter; returns (model, {LoRA tensor name: parameter})."""
    model = empty_model(spec, dtype)
    state = {name: torch.tensor(weight, dtype=dtype) for name, weight in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    model.requires_grad_(False)
    parameters = {}
    for name, (a, b) in adapter.matrices.items() if adapter else ():
        path = hf_name(name).removesuffix(".weight")
        parent = model.get_submodule(path.rpartition(".")[0])
        lora = Lora(model.get_submodule(path), a, b, adapter.alpha / adapter.rank)
        setattr(parent, path.rpartition(".")[2], lora)
        parameters[f"{name}.lora_a"], parameters[f"{name}.lora_b"] = lora.a, lora.b
    return model, parameters


# ---- names and order in GGUF -------------------------------------------------

HF_TO_GGUF = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
GGUF_TO_HF = {ours: theirs for theirs, ours in HF_TO_GGUF.items()}


def gguf_name(hf):
    layer, part, kind = re.fullmatch(r"(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)", hf).groups()
    return (f"blk.{layer}." if layer else "") + f"{HF_TO_GGUF[part]}.{kind}"


def hf_name(name):
    layer, part = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name).groups()
    return f"model.layers.{layer}.{GGUF_TO_HF[part]}.weight"


def to_gguf_rows(spec, name, x):
    """Puts the rows of q and k (weights, biases, lora_b) in GGUF's order."""
    target = re.search(r"attn_([qk])\.", name)
    if not spec.interleaved or not target or name.endswith(".lora_a"):
        return x
    config = spec.hf_config()
    heads = config.num_attention_heads if target[1] == "q" else config.num_key_value_heads
    return x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def rope_factors(spec):
    """The divisors of the frequencies that Llama 3's scaling amounts to, [head_dim / 2]."""
    config, scaling = spec.hf_config(), spec.scaling
    old, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    exponent = np.arange(0, config.head_dim, 2) / config.head_dim
    wavelength = 2 * np.pi * config.rope_theta**exponent
    smooth = np.clip((old / wavelength - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


# ---- adapters, sequences and pairs -------------------------------------------


@dataclasses.dataclass(frozen=True)
class Adapter:
    rank: int
    alpha: float
    matrices: dict  # tensor name in GGUF -> (A [rank, n_in], B [n_out, rank]), Hugging Face's rows


def random_adapter(spec, weights, seed, rank, alpha, targets):
    rng = np.random.default_rng((spec.seed, seed))
    matrices = {}
    for layer in range(spec.hf_config().num_hidden_layers):
        for target in targets:
            name = f"blk.{layer}.{target}.weight"
            n_out, n_in = weights[hf_name(name)].shape
            a = exact_in_half(rng.standard_normal((rank, n_in)) / math.sqrt(n_in))
            b = exact_in_half(0.1 * rng.standard_normal((n_out, rank)))
            matrices[name] = (a, b)
    return Adapter(rank, alpha, matrices)


def random_sequences(spec):
    """[(n_prompt, tokens)]"""
    rng = np.random.default_rng((spec.seed, 100))
    return [(n_prompt, [BOS] + rng.integers(len(SPECIALS), N_VOCAB, n_prompt + n - 1).tolist())
            for n_prompt, n in SEQUENCE_LENGTHS]


def random_pairs(spec):
    """[(prompt, chosen, rejected)], responses ending in EOS."""
    rng = np.random.default_rng((spec.seed, 200))
    pairs = []
    for n_prompt, n_chosen, n_rejected in PAIR_LENGTHS:
        prompt, chosen, rejected = (
            rng.integers(len(SPECIALS), N_VOCAB, n).tolist()
            for n in (n_prompt, n_chosen - 1, n_rejected - 1))
        if len(pairs) == 1:
            rejected[0] = chosen[0]
        else:
            assert rejected[0] != chosen[0]
        pairs.append((prompt, chosen + [EOS], rejected + [EOS]))
    return pairs


# ---- what PyTorch computes ---------------------------------------------------


def logits_of(model, tokens):
    """[n_tokens, n_vocab]"""
    return model(torch.tensor([tokens])).logits[0]


def response_logp(model, prompt, response):
    """[n_response]: log-probability of each response token given all before it."""
    logp = logits_of(model, prompt + response)[len(prompt) - 1 : -1].log_softmax(-1)
    return logp.gather(1, torch.tensor(response)[:, None])[:, 0]


def summed_logp(model, pairs):
    """(l_c [n_pairs], l_r [n_pairs])"""
    return tuple(torch.stack([response_logp(model, pair[0], pair[side]).sum() for pair in pairs])
                 for side in (1, 2))


def pair_losses(beta, l_c, l_r, base_c, base_r, n_c, n_r):
    """Name of the loss -> loss of each pair [n_pairs]."""
    z = beta * (l_c - l_r)
    z_mean = beta * (l_c / n_c - l_r / n_r)
    return {
        "arm": -logsigmoid(z),
        "margin": -logsigmoid(z - 0.5),
        "smoothing": -0.9 * logsigmoid(z) - 0.1 * logsigmoid(-z),
        "hinge": torch.relu(1 - z),
        "normalised": -logsigmoid(z_mean),
        "simpo": -logsigmoid(z_mean - 0.5),
        "dpo": -logsigmoid(beta * ((l_c - base_c) - (l_r - base_r))),
        "sft": -l_c / n_c,
    }


def arm_loss(model, pairs, beta):
    l_c, l_r = summed_logp(model, pairs)
    return -logsigmoid(beta * (l_c - l_r)).mean()


def optimise(parameters, loss_of, learning_rate):
    """Ten AdamW steps; returns gradients at the start, losses, norms and final parameters."""
    optimiser = torch.optim.AdamW(
        parameters.values(), lr=learning_rate, betas=(0.9, 0.999), eps=1e-8,
        weight_decay=WEIGHT_DECAY, foreach=False)
    losses, norms, gradients = [], [], None
    for _ in range(N_STEPS):
        optimiser.zero_grad()
        loss = loss_of()
        loss.backward()
        gradients = gradients or {name: p.grad.numpy().copy() for name, p in parameters.items()}
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0).item())
        losses.append(loss.item())
        optimiser.step()
    with torch.no_grad():
        losses.append(loss_of().item())
    final = {name: p.detach().numpy() for name, p in parameters.items()}
    return gradients, losses, norms, final


def train(spec, weights, adapter, pairs, beta, learning_rate, dtype=torch.float64):
    """The ARM loss on all pairs."""
    model, parameters = build(spec, weights, adapter, dtype)
    return optimise(parameters, lambda: arm_loss(model, pairs, beta), learning_rate)


# ---- writing -----------------------------------------------------------------


class File:
    """A GGUF file being written: keys, then tensors in the order of the calls."""

    def __init__(self, path, arch):
        self.writer = gguf.GGUFWriter(path, arch)

    def tensor(self, name, x):
        assert len(name) < 64, name  # GGML_MAX_NAME
        x = np.asarray(x)
        kind = np.int32 if np.issubdtype(x.dtype, np.integer) else np.float32
        self.writer.add_tensor(name, np.ascontiguousarray(x, dtype=kind))

    def close(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def write_rope(writer, spec):
    config, scaling = spec.hf_config(), spec.scaling
    kind = scaling.get("rope_type")
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(scaling["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])


def write_vocabulary(writer, spec, tokens, types, merges):
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_pad_token_id(BOS)
    writer.add_add_bos_token(spec.arch == "llama")
    writer.add_chat_template(CHAT_TEMPLATE)


def write_model(path, spec, weights, n_padding=0, replaced=()):
    config = spec.hf_config()
    file = File(path, spec.arch)
    writer = file.writer
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(path.stem)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(N_VOCAB + n_padding)
    writer.add_context_length(N_CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    if config.head_dim != config.hidden_size // config.num_attention_heads:
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    write_rope(writer, spec)
    write_vocabulary(writer, spec, *vocabulary(n_padding, replaced))
    if spec.scaling.get("rope_type") == "llama3":
        file.tensor("rope_freqs.weight", rope_factors(spec))
    for hf, weight in weights.items():
        name = gguf_name(hf)
        if name in ("token_embd.weight", "output.weight") and n_padding:
            rng = np.random.default_rng((spec.seed, 300))
            rows = rng.standard_normal((n_padding, weight.shape[1]))
            weight = np.concatenate([weight, exact_in_half(rows)])
        file.tensor(name, to_gguf_rows(spec, name, weight))
    file.close()


def write_adapter(path, spec, adapter):
    file = File(path, spec.arch)
    file.writer.add_type(gguf.GGUFType.ADAPTER)
    file.writer.add_name(path.stem)
    file.writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    file.writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.alpha)
    for name, (a, b) in adapter.matrices.items():
        file.tensor(f"{name}.lora_a", a)
        file.tensor(f"{name}.lora_b", to_gguf_rows(spec, f"{name}.lora_b", b))
    file.close()


def write_logits(file, spec, weights, adapters):
    """`adapters` maps the suffix of the tensor's name to an adapter or None."""
    models = {suffix: build(spec, weights, adapter)[0] for suffix, adapter in adapters.items()}
    for i, (n_prompt, tokens) in enumerate(random_sequences(spec)):
        file.writer.add_uint32(f"golden.seq{i}.n_prompt", n_prompt)
        file.tensor(f"seq{i}.tokens", tokens)
        for suffix, model in models.items():
            with torch.no_grad():
                file.tensor(f"seq{i}.logits{suffix}", logits_of(model, tokens).numpy())


def write_pairs(file, spec, weights, adapter, pairs):
    """Tokens and log-probabilities; returns the sums {"chosen_logp": [n_pairs], ...}."""
    models = {"": build(spec, weights, adapter)[0], "_base": build(spec, weights)[0]}
    sums = {}
    file.writer.add_uint32("golden.n_pairs", len(pairs))
    for i, (prompt, *responses) in enumerate(pairs):
        file.tensor(f"pair{i}.prompt", prompt)
        for side, response in zip(("chosen", "rejected"), responses):
            file.tensor(f"pair{i}.{side}", response)
            for suffix, model in models.items():
                with torch.no_grad():
                    logp = response_logp(model, prompt, response)
                file.tensor(f"pair{i}.{side}_logp{suffix}", logp.numpy())
                sums.setdefault(f"{side}_logp{suffix}", []).append(logp.sum().item())
    for name, values in sums.items():
        file.tensor(name, values)
    return sums


def write_losses(file, prefix, beta, pairs, sums, pair_losses=pair_losses):
    l_c, l_r = (torch.tensor(sums[f"{side}_logp"], dtype=torch.float64, requires_grad=True)
                for side in ("chosen", "rejected"))
    base_c, base_r = (torch.tensor(sums[f"{side}_logp_base"], dtype=torch.float64)
                      for side in ("chosen", "rejected"))
    n_c, n_r = (torch.tensor([len(pair[side]) for pair in pairs]) for side in (1, 2))
    file.writer.add_float64(f"golden.{prefix}.beta", beta)
    for option, losses in pair_losses(beta, l_c, l_r, base_c, base_r, n_c, n_r).items():
        d_c, d_r = torch.autograd.grad(
            losses.mean(), (l_c, l_r), retain_graph=True, materialize_grads=True)
        file.writer.add_float64(f"golden.{prefix}.loss.{option}", losses.mean().item())
        file.tensor(f"{prefix}.loss.{option}", losses.detach().numpy())
        file.tensor(f"{prefix}.d_chosen.{option}", d_c.numpy())
        file.tensor(f"{prefix}.d_rejected.{option}", d_r.numpy())


def write_training(file, spec, weights, adapter):
    pairs = random_pairs(spec)
    sums = write_pairs(file, spec, weights, adapter, pairs)
    for prefix, beta, learning_rate in BETAS:
        write_losses(file, prefix, beta, pairs, sums)
        gradients, losses, norms, final = train(spec, weights, adapter, pairs, beta, learning_rate)
        file.writer.add_float64(f"golden.{prefix}.learning_rate", learning_rate)
        file.tensor(f"{prefix}.adamw.loss", losses)
        file.tensor(f"{prefix}.adamw.grad_norm", norms)
        for name, x in gradients.items():
            file.tensor(f"{prefix}.grad.{name}", to_gguf_rows(spec, name, x))
        for name, x in final.items():
            file.tensor(f"{prefix}.adamw.final.{name}", to_gguf_rows(spec, name, x))


def make(spec, folder):
    """Writes every file of one model."""
    weights = random_weights(spec, empty_model(spec, torch.float32))
    adapters = {"": None, "_lora": random_adapter(spec, weights, 10, 4, 8.0, ALL_TARGETS)}
    if spec.second_adapter:
        adapters["_lora2"] = random_adapter(spec, weights, 20, 2, 6.0, ("attn_q", "attn_v"))
    write_model(folder / f"{spec.name}.gguf", spec, weights)
    for suffix, adapter in adapters.items():
        if adapter:
            write_adapter(folder / f"{spec.name}.{suffix[1:]}.gguf", spec, adapter)
    file = File(folder / f"{spec.name}.golden.gguf", "golden")
    file.writer.add_string("golden.model", f"{spec.name}.gguf")
    file.writer.add_string("golden.lora", f"{spec.name}.lora.gguf")
    write_logits(file, spec, weights, adapters)
    if spec.training:
        write_training(file, spec, weights, adapters["_lora"])
    file.close()
    if spec.name == "llama":
        write_model(folder / "llama-padded.gguf", spec, weights, n_padding=7)
        one_layer = dataclasses.replace(spec, config=dict(num_hidden_layers=1))
        weights = {name: x for name, x in weights.items() if ".layers.1." not in name}
        write_model(folder / "llama-mismatch.gguf", one_layer, weights,
                    replaced=(("Ġ m", "Ġ z"), ("Ġ l", "Ġ q")))


# ---- checking ----------------------------------------------------------------


def check_float32(spec):
    """How far float32 alone moves what training computes: (loss, gradient, final), relative."""
    weights = random_weights(spec, empty_model(spec, torch.float32))
    adapter = random_adapter(spec, weights, 10, 4, 8.0, ALL_TARGETS)
    for prefix, *settings in BETAS:
        exact, single = (train(spec, weights, adapter, random_pairs(spec), *settings, dtype)
                         for dtype in (torch.float64, torch.float32))
        loss = np.abs(np.divide(single[1], exact[1]) - 1).max()
        gradient, final = (
            max(np.abs(single[k][name] - x).max() / np.abs(x).max() for name, x in exact[k].items())
            for k in (0, 3))
        losses = " ".join(f"{x:.4f}" for x in exact[1])
        print(f"  {spec.name:8} {prefix:8} loss {losses}\n{'':20}norm "
              + " ".join(f"{x:.3f}" for x in exact[2])
              + f"\n{'':20}float32: loss {loss:.0e} gradient {gradient:.0e} adapter {final:.0e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with libllama")
    parser.add_argument("--output", type=pathlib.Path, metavar="FOLDER",
                        default=pathlib.Path(__file__).parent.parent / "tests" / "golden")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    import golden_conditioned  # which import this module
    import golden_losses
    import golden_rl

    for spec in SPECS:
        make(spec, arguments.output)
        if spec.training:
            golden_losses.make(spec, arguments.output)
            golden_rl.make(spec, arguments.output)
        if spec.name in golden_conditioned.NAMES:
            golden_conditioned.make(spec, arguments.output)
    size = sum(path.stat().st_size for path in arguments.output.glob("*.gguf"))
    print(f"{arguments.output}: {size / 1e6:.2f} MB")
    if not arguments.check:
        return 0
    import golden_check  # needs llama_cpp, which only this option does

    for spec in SPECS:
        if spec.training:
            check_float32(spec)
    return 0 if golden_check.check(arguments.output) else 1


if __name__ == "__main__":
    sys.exit(main())
