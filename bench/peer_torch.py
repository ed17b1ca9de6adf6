#!/usr/bin/env python3
"""PyTorch on the pairs of bench_train: what genarm's trainer is measured against.

    peer_torch.py [MODEL.gguf] [--modes official,official-bf16,best,best-f32] [--pairs N] [--steps N]

official       the published trainer's recipe: f32, chosen and rejected as two padded sequences of a batch, each with its
               own copy of the prompt, logits of every position
official-bf16  the same under bf16 autocast
best           the best that we know how to write: bf16 weights, the prompt once (its two responses do not see each
               other), logits only where a response token is predicted, torch.compile
best-f32       the same in f32

All train LoRA of rank 8 on q, k and v with AdamW and the ARM loss. Every mode runs in a process of its own and prints pairs
a second (median of the steps, one more before them to warm up or compile) and peak memory. Needs
bench/requirements-peers.txt.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

N_PROMPT, N_RESPONSE, AT_ONCE = 150, 90, 3  # as bench_train.c
BETA, RANK, ALPHA = 0.05, 8, 16
MODES = ("official", "official-bf16", "best", "best-f32")


def load(path, dtype):
    import torch
    from transformers import AutoModelForCausalLM
    folder, name = os.path.split(os.path.abspath(path))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=dtype, attn_implementation="sdpa")
    model.requires_grad_(False)
    model.config.use_cache = False

    class Lora(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base
            self.a = torch.nn.Parameter(torch.randn(RANK, base.in_features, dtype=torch.float32) / base.in_features ** 0.5)
            self.b = torch.nn.Parameter(torch.zeros(base.out_features, RANK, dtype=torch.float32))

        def forward(self, x):
            low = x @ self.a.to(x.dtype).T
            return self.base(x) + (low @ self.b.to(x.dtype).T) * (ALPHA / RANK)

    for layer in model.model.layers:
        for name in ("q_proj", "k_proj", "v_proj"):
            setattr(layer.self_attn, name, Lora(getattr(layer.self_attn, name)))
    return model


def make_pairs(n, n_vocab):
    import torch
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, n_vocab, (n, N_PROMPT + 2 * N_RESPONSE), generator=generator)


def arm_loss(logp, n_pairs):
    """logp: [pairs, 2] summed log-probabilities of chosen and rejected."""
    import torch
    return -torch.nn.functional.logsigmoid(BETA * (logp[:, 0] - logp[:, 1])).sum() / n_pairs


def official(model, pairs, n_pairs):
    """Two sequences a pair; logits and log-softmax of all positions."""
    import torch
    prompt, chosen, rejected = pairs.split((N_PROMPT, N_RESPONSE, N_RESPONSE), dim=1)
    ids = torch.cat((torch.cat((prompt, chosen), 1), torch.cat((prompt, rejected), 1)), 0)
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, :-1].float()
    logp = torch.gather(logits.log_softmax(-1), 2, ids[:, 1:, None]).squeeze(2)
    mask = torch.arange(ids.shape[1] - 1) >= N_PROMPT - 1
    sums = (logp * mask).sum(1)
    return arm_loss(torch.stack(sums.chunk(2), 1), n_pairs)


def tree():
    """(positions, attention mask, scored rows) of a pair with its prompt shared and each response less its last token."""
    import torch
    n = N_RESPONSE - 1
    length = N_PROMPT + 2 * n
    position = torch.cat((torch.arange(N_PROMPT), N_PROMPT + torch.arange(n), N_PROMPT + torch.arange(n)))
    branch = torch.cat((torch.zeros(N_PROMPT), torch.ones(n), torch.full((n,), 2.0)))
    row, column = torch.arange(length)[:, None], torch.arange(length)[None, :]
    visible = (column <= row) & ((branch[None, :] == 0) | (branch[:, None] == branch[None, :]))
    first, last = N_PROMPT - 1, N_PROMPT + n
    scored = torch.cat((torch.tensor([first]), torch.arange(N_PROMPT, last),
                        torch.tensor([first]), torch.arange(last, length)))
    return position[None], visible[None, None], scored


def make_best(model):
    import torch
    position, visible, scored = tree()

    def loss(pairs, n_pairs):
        prompt, chosen, rejected = pairs.split((N_PROMPT, N_RESPONSE, N_RESPONSE), dim=1)
        ids = torch.cat((prompt, chosen[:, :-1], rejected[:, :-1]), 1)
        batch = ids.shape[0]
        hidden = model.model(input_ids=ids, attention_mask=visible.expand(batch, -1, -1, -1),
                             position_ids=position.expand(batch, -1)).last_hidden_state[:, scored]
        logits = model.lm_head(hidden).float()
        targets = torch.cat((chosen, rejected), 1)
        logp = torch.gather(logits, 2, targets[:, :, None]).squeeze(2) - torch.logsumexp(logits, -1)
        return arm_loss(logp.view(batch, 2, N_RESPONSE).sum(2), n_pairs)

    return torch.compile(loss)


def run(mode, path, n_pairs, n_steps):
    import torch
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    model = load(path, torch.bfloat16 if mode == "best" else torch.float32)
    best = make_best(model) if mode.startswith("best") else None
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-4, weight_decay=0.05)
    pairs = make_pairs(n_pairs, model.config.vocab_size)
    seconds, losses = [], []
    for _ in range(n_steps + 1):
        start = time.perf_counter()
        total = 0.0
        for part in pairs.split(AT_ONCE):
            if best:
                loss = best(part, n_pairs)
            else:
                with torch.autocast("cpu", torch.bfloat16, enabled=mode == "official-bf16"):
                    loss = official(model, part, n_pairs)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
        losses.append(total)
    print(json.dumps({"mode": mode, "pairs_per_second": n_pairs / statistics.median(seconds[1:]),
                      "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "losses": losses}))


def main():
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    parser = argparse.ArgumentParser(description="PyTorch's speed on the pairs of bench_train")
    parser.add_argument("model", nargs="?", default=os.path.join(root, "models", "SmolLM2-135M-Instruct-Q4_1.gguf"))
    parser.add_argument("--modes", default=",".join(MODES), help="any of " + ", ".join(MODES))
    parser.add_argument("--pairs", type=int, default=4 * AT_ONCE, help="pairs of a step, a multiple of %d" % AT_ONCE)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        run(args.child, args.model, args.pairs, args.steps)
        return
    unknown = set(args.modes.split(",")) - set(MODES)
    if unknown:
        parser.error("unknown mode %s; known are %s" % (", ".join(sorted(unknown)), ", ".join(MODES)))
    print("PyTorch, %s, %d + 2 x %d tokens a pair" % (args.model, N_PROMPT, N_RESPONSE), flush=True)
    for mode in args.modes.split(","):
        command = [sys.executable, os.path.abspath(__file__), args.model, "--child", mode, "--pairs", str(args.pairs),
                   "--steps", str(args.steps)]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if result.returncode != 0:
            print("%s: failed: %s" % (mode, (result.stderr.strip().splitlines() or ["no message"])[-1]))
            continue
        r = json.loads(result.stdout.strip().splitlines()[-1])
        print("%s: %.2f pairs/s, peak memory %.2f GB, losses %s"
              % (mode, r["pairs_per_second"], r["peak_gb"], " ".join("%.4f" % x for x in r["losses"])), flush=True)


if __name__ == "__main__":
    main()
