"""Golden files of the losses with a reference or a head: NAME.losses.gguf, beside make_golden.py's.

DPO and IPO compare with the model without its adapter; bt trains a scalar head on the last
hidden state together with the adapter. The pairs, models and adapters are make_golden.py's.
tests/golden/README.md describes every tensor and key.
"""

import math

import numpy as np
import torch
from torch.nn.functional import logsigmoid

import make_golden as golden

# (name, beta, learning rate); bt has no beta
RUNS = (("dpo", 0.1, 2e-4), ("ipo", 0.25, 1e-4), ("bt", 1.0, 2e-4))
# What is kept of the matrices, so that the files stay small: model -> runs
GRADIENTS = {"llama": ("dpo", "ipo", "bt"), "mistral": ("bt",), "qwen2": ("dpo",), "qwen3": ("bt",)}
FINALS = {"llama": ("dpo", "bt")}


def pair_losses(beta, l_c, l_r, base_c, base_r, n_c, n_r):
    """Name of the loss -> loss of each pair [n_pairs], as make_golden.pair_losses."""
    ratio_c, ratio_r = l_c - base_c, l_r - base_r
    z = beta * (ratio_c - ratio_r)
    return {
        "dpo-margin": -logsigmoid(z - 0.5),
        "dpo-smoothing": -0.9 * logsigmoid(z) - 0.1 * logsigmoid(-z),
        "dpo-normalised": -logsigmoid(beta * (ratio_c / n_c - ratio_r / n_r)),
        "ipo": (ratio_c / n_c - ratio_r / n_r - 1 / (2 * beta)) ** 2,
        "bt": -logsigmoid(l_c - l_r),  # as if the sums were rewards
        "bt-margin": -logsigmoid(l_c - l_r - 0.5),
    }


def random_head(spec):
    rng = np.random.default_rng((spec.seed, 400))
    n = spec.hf_config().hidden_size
    return golden.exact_in_half(rng.standard_normal(n) / math.sqrt(n))


def rewards(model, head, pairs):
    """(r_c [n_pairs], r_r [n_pairs]): head . hidden state of the response's last token"""
    def reward(tokens):
        return model.model(torch.tensor([tokens])).last_hidden_state[0, -1] @ head

    return tuple(torch.stack([reward(pair[0] + pair[side]) for pair in pairs]) for side in (1, 2))


def loss_of(name, beta, model, head, pairs, base):
    """The mean loss as a function of the parameters; `base` is the reference's summed_logp."""
    if name == "bt":
        def loss():
            r_c, r_r = rewards(model, head, pairs)
            return -logsigmoid(r_c - r_r).mean()
    else:
        n_c, n_r = (torch.tensor([len(pair[side]) for pair in pairs]) for side in (1, 2))

        def loss():
            sums = golden.summed_logp(model, pairs)
            ours = pair_losses(beta, *sums, *base, n_c, n_r)
            theirs = golden.pair_losses(beta, *sums, *base, n_c, n_r)
            return {**theirs, **ours}[name].mean()
    return loss


def write_run(file, spec, weights, adapter, pairs, run):
    name, beta, learning_rate = run
    model, parameters = golden.build(spec, weights, adapter)
    head = torch.nn.Parameter(torch.tensor(random_head(spec), dtype=torch.float64))
    with torch.no_grad():
        base = golden.summed_logp(golden.build(spec, weights)[0], pairs)
        r_c, r_r = rewards(model, head, pairs)
    if name == "bt":
        parameters["head"] = head
        file.tensor("bt.head", head.detach().numpy())
        file.tensor("bt.chosen_reward", r_c.numpy())
        file.tensor("bt.rejected_reward", r_r.numpy())
    loss = loss_of(name, beta, model, head, pairs, base)
    gradients, losses, norms, final = golden.optimise(parameters, loss, learning_rate)
    file.writer.add_float64(f"golden.{name}.beta", beta)
    file.writer.add_float64(f"golden.{name}.learning_rate", learning_rate)
    file.tensor(f"{name}.adamw.loss", losses)
    file.tensor(f"{name}.adamw.grad_norm", norms)
    kept = ((GRADIENTS, "grad", gradients), (FINALS, "adamw.final", final))
    for where, prefix, matrices in kept:
        for key, x in matrices.items() if name in where.get(spec.name, ()) else ():
            file.tensor(f"{name}.{prefix}.{key}", golden.to_gguf_rows(spec, key, x))


def make(spec, folder):
    """Writes the file of one model."""
    weights = golden.random_weights(spec, golden.empty_model(spec, torch.float32))
    adapter = golden.random_adapter(spec, weights, 10, 4, 8.0, golden.ALL_TARGETS)
    pairs = golden.random_pairs(spec)
    sums = {}
    for suffix, lora in (("", adapter), ("_base", None)):
        with torch.no_grad():
            l_c, l_r = golden.summed_logp(golden.build(spec, weights, lora)[0], pairs)
        sums[f"chosen_logp{suffix}"], sums[f"rejected_logp{suffix}"] = l_c.tolist(), l_r.tolist()
    file = golden.File(folder / f"{spec.name}.losses.gguf", "golden")
    for prefix, beta, _ in golden.BETAS:
        golden.write_losses(file, prefix, beta, pairs, sums, pair_losses)
    for run in RUNS:
        write_run(file, spec, weights, adapter, pairs, run)
    file.close()
