"""Golden file of reinforcement learning: llama.rl.gguf, beside make_golden.py's.

RLOO and GRPO on given responses, rewards and sampling log-probabilities: advantages, losses
and the gradient of every LoRA matrix, from the objective as TRL's trainers state it, by
PyTorch's autograd. Model and adapter are make_golden.py's. tests/golden/README.md describes
every tensor and key.
"""

from dataclasses import dataclass

import numpy as np
import torch

import make_golden as golden

MODELS = ("llama",)
GROUP = 4
PROMPT_LENGTHS = (6, 9)
RESPONSE_LENGTHS = ((5, 1, 8, 7), (3, 6, 4, 9))  # the last one of a group is cut: no EOS
NOISE = 0.3  # largest difference of a token's log-probability to when it was sampled
MAX_TOKENS = 12


@dataclass(frozen=True)
class Run:
    method: str
    temperature: float
    kl_coef: float
    old: bool  # a later update: ratios differ from 1
    scale: bool = True
    average: str = "dapo"
    mask: bool = False  # cut responses are left out
    penalty: float = 0.0  # of cut responses
    gradients: bool = False


RUNS = {
    "rloo": Run("rloo", 0.7, 0.3, old=False, gradients=True),
    "rloo-clip": Run("rloo", 1.0, 0.1, old=True, penalty=0.5),
    "grpo": Run("grpo", 1.0, 0.1, old=False, average="grpo"),
    "grpo-clip": Run("grpo", 0.7, 0.2, old=True, scale=False, mask=True, gradients=True),
    "grpo-dr": Run("grpo", 1.0, 0.0, old=True, average="dr-grpo"),
}
CLIP = 0.2


def random_groups(spec):
    """[(prompt, [response])]"""
    rng = np.random.default_rng((spec.seed, 500))
    groups = []
    for n_prompt, lengths in zip(PROMPT_LENGTHS, RESPONSE_LENGTHS):
        draw = lambda n: rng.integers(len(golden.SPECIALS), golden.N_VOCAB, n).tolist()
        prompt = draw(n_prompt)
        responses = [draw(n - 1) + [golden.EOS] for n in lengths]
        responses[-1][-1] = len(golden.SPECIALS) + 7
        groups.append((prompt, responses))
    return groups


def token_logp(model, groups, temperature):
    """[n_tokens] of each response, at a temperature."""
    found = []
    for prompt, responses in groups:
        for response in responses:
            logits = golden.logits_of(model, prompt + response)[len(prompt) - 1:-1] / temperature
            logp = torch.log_softmax(logits, -1)
            found.append(logp[torch.arange(len(response)), torch.tensor(response)])
    return found


def padded(rows):
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def advantages_of(run, rewards, old, reference, mask, ended):
    rewards = rewards - run.penalty * (~ended)
    if run.method == "rloo":
        rewards = rewards - run.kl_coef * ((old - reference) * mask).sum(1)
    groups = rewards.view(-1, GROUP)
    if run.method == "rloo":
        others = (groups.sum(1, keepdim=True) - groups) / (GROUP - 1)
        return (groups - others).flatten()
    centred = groups - groups.mean(1, keepdim=True)
    return (centred / (groups.std(1, keepdim=True) + 1e-4) if run.scale else centred).flatten()


def clipped_loss(ratio, advantages):
    return -torch.min(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)


def loss_of(run, logp, old, reference, mask, advantages):
    if run.method == "rloo":
        ratio = torch.exp(((logp - old) * mask).sum(1))
        return clipped_loss(ratio, advantages).mean()
    d = reference - logp
    tokens = clipped_loss(torch.exp(logp - old), advantages[:, None]) + run.kl_coef * (torch.exp(d) - d - 1)
    tokens = tokens * mask
    if run.average == "dapo":
        return tokens.sum() / mask.sum().clamp(min=1)
    if run.average == "grpo":
        return (tokens.sum(1) / mask.sum(1).clamp(min=1)).mean()
    return tokens.sum() / (len(tokens) * MAX_TOKENS)


def write_run(file, spec, weights, adapter, groups, rewards, name, run):
    model, parameters = golden.build(spec, weights, adapter)
    ended = torch.tensor([r[-1] == golden.EOS for _, responses in groups for r in responses])
    lengths = [len(r) for _, responses in groups for r in responses]
    with torch.no_grad():
        rows = token_logp(golden.build(spec, weights)[0], groups, run.temperature)
        reference = padded(rows)
    rows = token_logp(model, groups, run.temperature)
    logp = padded(rows)
    mask = padded([torch.ones(n, dtype=torch.float64) for n in lengths])
    if run.mask:
        mask = mask * ended[:, None]
    old = logp.detach()
    if run.old:
        rng = np.random.default_rng((spec.seed, 501))
        noise = [torch.tensor(golden.exact_in_half(rng.uniform(-NOISE, NOISE, n))) for n in lengths]
        old = padded([row.detach() + x for row, x in zip(rows, noise)]).float().double()
    advantages = advantages_of(run, rewards, old, reference, mask, ended)
    loss = loss_of(run, logp, old, reference, mask, advantages)
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    flat = lambda x: torch.cat([x[i, :n] for i, n in enumerate(lengths)]).detach().numpy()
    file.tensor(f"{name}.logp", flat(logp))
    file.tensor(f"{name}.reference", flat(reference))
    if run.old:
        file.tensor(f"{name}.old", flat(old))
    file.tensor(f"{name}.advantages", advantages.numpy())
    file.writer.add_float64(f"golden.{name}.temperature", run.temperature)
    file.writer.add_float64(f"golden.{name}.kl_coef", run.kl_coef)
    file.writer.add_float64(f"golden.{name}.loss", loss.item())
    file.writer.add_float64(f"golden.{name}.grad_norm", torch.cat([g.flatten() for g in gradients]).norm().item())
    for key, x in zip(parameters, gradients) if run.gradients else ():
        file.tensor(f"{name}.grad.{key}", golden.to_gguf_rows(spec, key, x.numpy()))


def make(spec, folder):
    """Writes the file of one model, if it has one."""
    if spec.name not in MODELS:
        return
    weights = golden.random_weights(spec, golden.empty_model(spec, torch.float32))
    adapter = golden.random_adapter(spec, weights, 10, 4, 8.0, golden.ALL_TARGETS)
    groups = random_groups(spec)
    rng = np.random.default_rng((spec.seed, 502))
    rewards = golden.exact_in_half(rng.standard_normal(GROUP * len(groups)))
    file = golden.File(folder / f"{spec.name}.rl.gguf", "golden")
    file.writer.add_uint32("golden.n_groups", len(groups))
    file.writer.add_uint32("golden.group_size", GROUP)
    for g, (prompt, responses) in enumerate(groups):
        file.tensor(f"group{g}.prompt", np.array(prompt))
        for k, response in enumerate(responses):
            file.tensor(f"group{g}.response{k}", np.array(response))
    file.tensor("rewards", rewards)
    for name, run in RUNS.items():
        write_run(file, spec, weights, adapter, groups, torch.tensor(rewards, dtype=torch.float64), name, run)
    file.close()
