#!/usr/bin/env python3
"""Makes the golden PEFT adapters: saved by PEFT itself, for models of make_golden.py, with PEFT's logits or rewards.

The reference is PEFT on Hugging Face's models (eager attention, float64): the adapter is saved, loaded again as a user
would, and run. tests/golden/README.md describes the files.

    python3 -m venv VENV && VENV/bin/pip install -r scripts/requirements-golden.txt
    VENV/bin/python scripts/make_peft_golden.py [--check PROGRAM] [--output FOLDER]

--check has the program genarm convert the golden GGUF adapters, and compares PEFT's logits on what comes out with the
golden ones.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import peft
import torch
import transformers

import make_golden

TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Case:
    """One adapter: `config` goes to LoraConfig as it is."""

    name: str  # of the model in make_golden.SPECS
    seed: int
    dtype: torch.dtype  # of the saved tensors
    config: dict
    head: bool = False  # a reward model: a sequence classifier with one label


CASES = (
    # Ranks and scales that differ between modules.
    Case("llama", 30, torch.float32, dict(
        r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        rank_pattern={"k_proj": 2}, alpha_pattern={"layers.1.self_attn.v_proj": 12})),
    # Heads whose size is not n_embd / n_head.
    Case("mistral", 31, torch.float16, dict(
        r=3, lora_alpha=5, target_modules=["q_proj", "k_proj"])),
    # Scale alpha / sqrt(r); no rows are permuted in this architecture.
    Case("qwen2", 32, torch.bfloat16, dict(
        r=4, lora_alpha=3, use_rslora=True, target_modules="all-linear")),
    # A reward model, as TRL's RewardTrainer makes them: its head is saved beside the matrices.
    Case("qwen3", 33, torch.float32, dict(
        r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"]), head=True),
)


def spec_of(name):
    return next(spec for spec in make_golden.SPECS if spec.name == name)


def base_model(spec, dtype):
    weights = make_golden.random_weights(spec, make_golden.empty_model(spec, torch.float32))
    return make_golden.build(spec, weights, dtype=dtype)[0]


def classifier(spec, dtype):
    """The base model under a head with one output."""
    config = spec.hf_config()
    config.num_labels = 1
    model = getattr(transformers, f"{spec.family}ForSequenceClassification")(config).to(dtype).eval()
    model.model.load_state_dict(base_model(spec, dtype).model.state_dict())
    return model


def model_for(case, dtype):
    return (classifier if case.head else base_model)(spec_of(case.name), dtype)


def save_adapter(case, folder):
    """A random adapter, written by PEFT."""
    model = peft.get_peft_model(
        model_for(case, torch.float32),
        peft.LoraConfig(task_type="SEQ_CLS" if case.head else "CAUSAL_LM", **case.config))
    rng = np.random.default_rng(case.seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            size = 1 / np.sqrt(parameter.shape[1]) if "lora_A" in name else 0.2
            values = make_golden.exact_in_half(size * rng.standard_normal(parameter.shape))
            parameter.data = torch.tensor(values, dtype=case.dtype)
    model.peft_config["default"].base_model_name_or_path = f"golden/{case.name}"
    model.save_pretrained(folder, save_embedding_layers=False)  # else it looks for the base model in the net
    (folder / "README.md").unlink()
    (folder / "adapter_model.safetensors").chmod(0o644)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    for option in ("target_modules", "modules_to_save"):
        if isinstance(config[option], list):
            config[option].sort()  # a set in PEFT: its order changes from run to run
    path.write_text(json.dumps(config, indent=2) + "\n")


def peft_logits(spec, folder, tokens):
    """[n_tokens, n_vocab]: the adapter of the folder on its model."""
    model = peft.PeftModel.from_pretrained(base_model(spec, torch.float64), folder).double().eval()
    with torch.no_grad():
        return make_golden.logits_of(model, tokens).numpy()


def peft_rewards(model, folder, tokens):
    """[n_tokens]: the output of the classifier with the folder's adapter for each beginning of the tokens."""
    model = peft.PeftModel.from_pretrained(model, folder).double().eval()
    with torch.no_grad():
        return np.array([model(torch.tensor([tokens[: n + 1]])).logits.item() for n in range(len(tokens))])


def make(case, output):
    spec = spec_of(case.name)
    folder = output / case.name
    folder.mkdir(parents=True, exist_ok=True)
    save_adapter(case, folder)
    tokens = make_golden.random_sequences(spec)[0][1]
    file = make_golden.File(output / f"{case.name}.golden.gguf", "golden")
    file.tensor("seq0.tokens", tokens)
    if case.head:
        file.tensor("seq0.rewards_peft", peft_rewards(model_for(case, torch.float64), folder, tokens))
    else:
        file.tensor("seq0.logits_peft", peft_logits(spec, folder, tokens))
    file.close()


def check(program, golden):
    """PEFT on what the program makes of golden adapters; returns the largest difference."""
    worst = 0.0
    for spec in make_golden.SPECS:
        reader = gguf.GGUFReader(golden / f"{spec.name}.golden.gguf")
        known = {str(tensor.name): np.array(tensor.data) for tensor in reader.tensors}
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([program, "convert", "-m", golden / f"{spec.name}.gguf",
                            golden / f"{spec.name}.lora.gguf", "-o", folder], check=True)
            got = peft_logits(spec, folder, known["seq0.tokens"].tolist())
        error = np.abs(got - known["seq0.logits_lora"]).max()
        effect = np.abs(known["seq0.logits"] - known["seq0.logits_lora"]).max()
        print(f"{spec.name:13} difference {error:.1e} effect of LoRA {effect:.1f}")
        worst = max(worst, error)
    for case in CASES:
        worst = max(worst, check_head(program, golden, case)) if case.head else worst
    return worst


def check_head(program, golden, case):
    """PEFT's rewards on what the program makes of the folder's GGUF adapter."""
    reader = gguf.GGUFReader(golden / "peft" / f"{case.name}.golden.gguf")
    known = {str(tensor.name): np.array(tensor.data) for tensor in reader.tensors}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for source, target in ((golden / "peft" / case.name, folder / "arm.gguf"), (folder / "arm.gguf", folder / "peft")):
            subprocess.run([program, "convert", "-m", golden / f"{case.name}.gguf", source, "-o", target], check=True)
        got = peft_rewards(model_for(case, torch.float64), folder / "peft", known["seq0.tokens"].tolist())
    error = np.abs(got - known["seq0.rewards_peft"]).max()
    print(f"{case.name:13} difference {error:.1e} of rewards up to {np.abs(got).max():.1f}")
    return error


def main():
    golden = pathlib.Path(__file__).parent.parent / "tests" / "golden"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", metavar="PROGRAM", help="compare what genarm converts")
    parser.add_argument("--output", type=pathlib.Path, metavar="FOLDER", default=golden / "peft")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for case in CASES:
        make(case, arguments.output)
    size = sum(path.stat().st_size for path in arguments.output.rglob("*") if path.is_file())
    print(f"{arguments.output}: {size / 1e3:.0f} kB")
    return 0 if not arguments.check or check(arguments.check, golden) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
