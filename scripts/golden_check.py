#!/usr/bin/env python3
"""Compares libllama with the golden files: every model, base and with every adapter.

    VENV/bin/python scripts/golden_check.py [FOLDER]

Needs numpy, gguf and llama_cpp (scripts/requirements-golden.txt), not PyTorch. Called by
make_golden.py --check; exits with 1 when a logit differs by more than TOLERANCE.
"""

import ctypes
import pathlib
import sys

import gguf
import llama_cpp
import numpy as np

TOLERANCE = 1e-4
N_CONTEXT = 256
EOS = 2


@llama_cpp.llama_log_callback
def quiet(_level, _text, _data):
    pass


class Libllama:
    """A GGUF model in libllama: float32 KV cache, no flash attention, one thread."""

    def __init__(self, path, adapter=None):
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
        assert self.model, f"libllama refuses {path}"
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocab)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = N_CONTEXT
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        assert self.context, f"no context for {path}"
        if adapter:
            lora = llama_cpp.llama_adapter_lora_init(self.model, str(adapter).encode())
            assert lora, f"libllama refuses {adapter}"
            loras = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora)
            scales = (ctypes.c_float * 1)(1.0)
            assert llama_cpp.llama_set_adapters_lora(self.context, loras, 1, scales) == 0

    def close(self):
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)

    def logits(self, tokens):
        """[n_tokens, n_vocab]"""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        assert llama_cpp.llama_decode(self.context, batch) == 0
        llama_cpp.llama_batch_free(batch)
        return np.array([llama_cpp.llama_get_logits_ith(self.context, i)[: self.n_vocab]
                         for i in range(len(tokens))], dtype=np.float64)

    def response_logp(self, prompt, response):
        """[n_response]: log-probability of each response token given all before it."""
        x = self.logits(np.concatenate([prompt, response]).tolist())[len(prompt) - 1 : -1]
        x -= x.max(1, keepdims=True)
        x -= np.log(np.exp(x).sum(1, keepdims=True))
        return x[np.arange(len(response)), response]

    def tokenize(self, text):
        tokens, data = (llama_cpp.llama_token * 64)(), text.encode()
        n = llama_cpp.llama_tokenize(self.vocab, data, len(data), tokens, 64, True, True)
        return tokens[:n]

    def is_end(self, token):
        return llama_cpp.llama_vocab_is_eog(self.vocab, token)


def read_golden(path):
    """{tensor name: array in numpy order}"""
    return {str(tensor.name): np.array(tensor.data) for tensor in gguf.GGUFReader(path).tensors}


def check_model(folder, name):
    """Logits and log-probabilities of one model; returns the largest difference."""
    golden = read_golden(folder / f"{name}.golden.gguf")
    worst = 0.0
    for suffix in ("", "_lora", "_lora2"):
        if f"seq0.logits{suffix}" not in golden:
            continue
        adapter = folder / f"{name}.{suffix[1:]}.gguf" if suffix else None
        oracle = Libllama(folder / f"{name}.gguf", adapter)
        for seq in ("seq0", "seq1"):
            want = golden[f"{seq}.logits{suffix}"]
            error = np.abs(oracle.logits(golden[f"{seq}.tokens"].tolist()) - want).max()
            effect = np.abs(want - golden[f"{seq}.logits"]).max()
            print(f"{name:13} {seq} logits{suffix:6} standard deviation {want.std():.2f}"
                  f" difference {error:.1e}" + (f" effect of LoRA {effect:.1f}" * bool(suffix)))
            worst = max(worst, error)
        logp = {"": "_logp_base", "_lora": "_logp"}.get(suffix)
        for key, want in golden.items():
            if logp and key.startswith("pair") and key.endswith(logp):
                pair, side = key.removesuffix(logp).split(".")
                got = oracle.response_logp(golden[f"{pair}.prompt"], golden[f"{pair}.{side}"])
                worst = max(worst, np.abs(got - want).max())
        oracle.close()
    return worst


def check_variants(folder):
    """Padding changes no logit of a real token; the tokeniser works and sees a mismatch."""
    tokens = read_golden(folder / "llama.golden.gguf")["seq1.tokens"].tolist()
    plain, padded, mismatch = (
        Libllama(folder / f"llama{suffix}.gguf") for suffix in ("", "-padded", "-mismatch"))
    assert padded.n_vocab == plain.n_vocab + 7 and mismatch.n_vocab == plain.n_vocab
    error = np.abs(padded.logits(tokens)[:, : plain.n_vocab] - plain.logits(tokens)).max()
    text = "<|im_start|>the king and you<|im_end|>é\n"
    ids = plain.tokenize(text)
    print(f"llama-padded  seq1 difference to llama {error:.1e}")
    print(f"tokens of {text!r}: {ids}")
    assert ids[:2] == [0, 1] and EOS in ids and plain.is_end(EOS)
    assert len(ids) < len(text.encode()) - 20  # merges are applied
    assert padded.tokenize(text) == ids == mismatch.tokenize(text)
    assert mismatch.tokenize(" m") != plain.tokenize(" m")
    for model in (plain, padded, mismatch):
        model.close()
    return error


def check(folder):
    llama_cpp.llama_log_set(quiet, None)
    names = sorted(path.name[: -len(".golden.gguf")] for path in folder.glob("*.golden.gguf"))
    assert names, f"no golden files in {folder}"
    worst = max(check_model(folder, name) for name in names)
    worst = max(worst, check_variants(folder))
    print(f"largest difference to libllama: {worst:.1e} (tolerance {TOLERANCE:.0e})")
    return worst <= TOLERANCE


if __name__ == "__main__":
    default = pathlib.Path(__file__).parent.parent / "tests" / "golden"
    sys.exit(0 if check(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default) else 1)
