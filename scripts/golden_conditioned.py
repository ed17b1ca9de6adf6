"""Golden files of a conditioned adapter: NAME.conditioned.gguf, beside make_golden.py's.

dW(a) = s (B1 W1 A1 + B2 (sum_i a_i T_i) A2), the formula of PARM (Lin et al., ICML 2025) written
out, with the A and B of make_golden.py's adapter; the loss is sum_i a_i times the mean ARM loss of
objective i. The objectives are the same pairs, ranked otherwise.
tests/golden/README.md describes every tensor and key.
"""

import math

import numpy as np
import torch

import make_golden as golden

NAMES = ("llama", "qwen3")
RANK = 2  # of the part that depends on the preference, of 4
BETA, LEARNING_RATE = 0.3, 1e-3
# Pairs whose responses change places, of each objective
SWAPPED = ((), (0, 2), (1,))
# One for each step, the last for the loss after them
PREFERENCES = ((0.6, 0.3, 0.1), (0.0, 1.0, 0.0), (0.2, 0.2, 0.6), (0.5, 0.0, 0.5), (1.0, 0.0, 0.0),
               (0.1, 0.1, 0.8), (0.3, 0.4, 0.3), (0.0, 0.7, 0.3), (0.9, 0.1, 0.0), (0.25, 0.5, 0.25),
               (0.6, 0.3, 0.1))


class Conditioned(torch.nn.Module):
    """A Lora with W1 [r1, r1] and T [k, r2, r2] between A and B; `preference` is set from outside."""

    def __init__(self, lora, w1, t):
        super().__init__()
        dtype = lora.a.dtype
        self.linear, self.scale, self.a, self.b = lora.linear, lora.scale, lora.a, lora.b
        self.w1 = torch.nn.Parameter(torch.tensor(w1, dtype=dtype))
        self.t = torch.nn.Parameter(torch.tensor(t, dtype=dtype))
        self.preference = None

    def forward(self, x):
        r1 = self.w1.shape[0]
        w2 = torch.einsum("o,oij->ij", self.preference, self.t)
        change = self.b[:, :r1] @ self.w1 @ self.a[:r1] + self.b[:, r1:] @ w2 @ self.a[r1:]
        return self.linear(x) + self.scale * (x @ change.T)


def build(spec, weights, adapter):
    """(model, {tensor name: parameter}, function that sets the preference)"""
    model, parameters = golden.build(spec, weights, adapter)
    rng = np.random.default_rng((spec.seed, 500))
    r1, modules = adapter.rank - RANK, []
    for name in adapter.matrices:
        path = golden.hf_name(name).removesuffix(".weight")
        parent, _, child = path.rpartition(".")
        w1 = golden.exact_in_half(rng.standard_normal((r1, r1)) / math.sqrt(r1))
        t = golden.exact_in_half(rng.standard_normal((len(SWAPPED), RANK, RANK)) / math.sqrt(RANK))
        module = Conditioned(model.get_submodule(path), w1, t)
        setattr(model.get_submodule(parent), child, module)
        parameters[f"{name}.w1"], parameters[f"{name}.t"] = module.w1, module.t
        modules.append(module)

    def prefer(preference):
        for module in modules:
            module.preference = torch.tensor(preference, dtype=torch.float64)

    return model, parameters, prefer


def objective_pairs(pairs, swapped):
    return [(prompt, rejected, chosen) if i in swapped else (prompt, chosen, rejected)
            for i, (prompt, chosen, rejected) in enumerate(pairs)]


def make(spec, folder):
    """Writes the file of one model."""
    weights = golden.random_weights(spec, golden.empty_model(spec, torch.float32))
    adapter = golden.random_adapter(spec, weights, 10, 4, 8.0, golden.ALL_TARGETS)
    model, parameters, prefer = build(spec, weights, adapter)
    objectives = [objective_pairs(golden.random_pairs(spec), swapped) for swapped in SWAPPED]
    file = golden.File(folder / f"{spec.name}.conditioned.gguf", "golden")
    file.writer.add_uint32("golden.rank", RANK)
    file.writer.add_float64("golden.beta", BETA)
    file.writer.add_float64("golden.learning_rate", LEARNING_RATE)
    file.tensor("preferences", PREFERENCES)
    for i, swapped in enumerate(SWAPPED):
        file.tensor(f"swapped{i}", [int(pair in swapped) for pair in range(len(objectives[i]))])
    for name, parameter in parameters.items():
        if not name.endswith((".lora_a", ".lora_b")):
            file.tensor(name, parameter.detach().numpy())
    _, tokens = golden.random_sequences(spec)[0]
    for i in range(3):
        prefer(PREFERENCES[i])
        with torch.no_grad():
            file.tensor(f"logits{i}", golden.logits_of(model, tokens).numpy())

    def losses():
        return torch.stack([golden.arm_loss(model, pairs, BETA) for pairs in objectives])

    step = iter(PREFERENCES)

    def loss():
        preference = next(step)
        prefer(preference)
        return torch.tensor(preference, dtype=torch.float64) @ losses()

    prefer(PREFERENCES[0])
    with torch.no_grad():
        file.tensor("losses", losses().numpy())
    gradients, path, norms, final = golden.optimise(parameters, loss, LEARNING_RATE)
    file.tensor("adamw.loss", path)
    file.tensor("adamw.grad_norm", norms)
    for prefix, values in (("grad", gradients), ("adamw.final", final if spec.name == "llama" else {})):
        for name, x in values.items():
            rows = golden.to_gguf_rows(spec, name, x) if name.endswith(".lora_b") else x
            file.tensor(f"{prefix}.{name}", rows)
    file.close()
