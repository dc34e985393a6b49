#!/usr/bin/env python3
"""Makes test/golden/fixtures-options: what PEFT computes with LoRA's options on the tiny models of test/golden/fixtures.

    .venv/bin/python scripts/parity/make_option_fixtures.py                  # all cases, in place of what is there
    .venv/bin/python scripts/parity/make_option_fixtures.py qwen2-bias-all   # one
    npm run build && .venv/bin/python scripts/parity/make_option_fixtures.py --roundtrip
                                     # loads each adapter with lowrank, writes it, and loads that with PEFT

Each case is a folder <model>-<option>:
    adapter/               the adapter in the middle of its training, written by PEFT
    expected.safetensors   adapted_logits [B, S, V] (zero at the padding) and grad.<name in the adapter's file>: the gradient
                           of the mean loss for everything that trains
    expected.json          method, base, loss, versions
What merging has to give is adapted_logits: PEFT itself merges an embedding into a tied head, and then computes otherwise.
The model and the batch are those of fixtures/<model>. Runs in a few seconds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, VeraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import reference as ref

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "test" / "golden"
FIXTURES = GOLDEN / "fixtures-options"

COMMON = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"}
QV = {"target_modules": ["q_proj", "v_proj"]}

# Base and options. qwen2: tied, biases on q, k and v. smollm2: tied, no biases. llama2: a head of its own, no biases.
CASES: dict[str, tuple[str, dict]] = {
    "qwen2-bias-all": ("qwen2", QV | {"bias": "all"}),
    "qwen2-bias-lora-only": ("qwen2", QV | {"bias": "lora_only"}),
    "qwen2-lora-bias": ("qwen2", QV | {"lora_bias": True, "bias": "lora_only"}),
    "smollm2-lora-bias": ("smollm2", {"target_modules": ["o_proj"], "lora_bias": True}),
    "qwen2-layers": (
        "qwen2",
        {
            "target_modules": ["q_proj", "k_proj", "down_proj"],
            "exclude_modules": ["layers.1.mlp.down_proj"],
            "layers_to_transform": [1],
            "layers_pattern": ["layers"],
        },
    ),
    "qwen2-exclude": ("qwen2", {"target_modules": r".*_proj", "exclude_modules": r".*\.(mlp\..*|0\.self_attn\.q_proj)"}),
    "llama2-modules-to-save": ("llama2", QV | {"modules_to_save": ["lm_head", "embed_tokens", "model.norm"]}),
    "qwen2-modules-to-save": ("qwen2", QV | {"modules_to_save": ["k_proj", "post_attention_layernorm"]}),
    "smollm2-save-head": ("smollm2", QV | {"modules_to_save": ["lm_head"]}),
    "smollm2-save-embedding": ("smollm2", QV | {"modules_to_save": ["embed_tokens"]}),
    "llama2-embedding-and-head": ("llama2", {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}),
    "smollm2-embedding": ("smollm2", {"target_modules": ["embed_tokens", "q_proj"]}),
    "smollm2-head": ("smollm2", {"target_modules": ["lm_head", "q_proj"], "use_rslora": True}),
    "smollm2-dora-embedding": ("smollm2", {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True}),
    "llama2-tokens": ("llama2", QV | {"trainable_token_indices": [80, 5, 21]}),
    "smollm2-tokens": ("smollm2", QV | {"trainable_token_indices": [88, 3, 40]}),
    "llama2-tokens-of-head": ("llama2", QV | {"trainable_token_indices": {"embed_tokens": [5, 9], "lm_head": [30, 9, 88]}}),
    "qwen2-orthogonal": ("qwen2", QV | {"init_lora_weights": "orthogonal"}),
    "qwen2-mica": ("qwen2", {"target_modules": ["q_proj", "embed_tokens"], "init_lora_weights": "mica"}),
    "qwen2-vera": (
        "qwen2",
        {"vera": True, "target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1]}
        | {"bias": "vera_only", "modules_to_save": ["norm"]},
    ),
}

REWRITE = """
import { mkdir } from 'node:fs/promises';
import { loadAdapterFolder, writeAdapterFolder } from './dist/methods/files.js';
import { openModel } from './dist/models/base.js';
const [base, from, to] = process.argv.slice(1);
const adapter = await loadAdapterFolder(from, await openModel(base));
await mkdir(to);
await writeAdapterFolder(to, adapter, base);
"""


def config_of(options: dict) -> PeftConfig:
    if "vera" in options:
        return VeraConfig(r=12, task_type="CAUSAL_LM", **{key: options[key] for key in options if key != "vera"})
    return LoraConfig(**COMMON | options)


def file_name(name: str) -> str:
    """A parameter's name in the adapter's file."""
    if ".lora_magnitude_vector." in name:
        return name.removesuffix(".default.weight")
    return name.replace(".modules_to_save.default", "").replace(".default", "")


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {file_name(name): p for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def move(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Puts every tensor of the adapter, frozen ones too, somewhere in the middle of its training."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and ".lora_" not in name:
            continue
        noise = torch.empty_like(parameter).normal_(0, 1, generator=generator)
        if "lora_A" in name or "lora_embedding_A" in name:
            parameter.copy_(noise * 0.3)
        elif "lora_B.default.weight" in name or "lora_embedding_B" in name:
            parameter.copy_(noise * 0.1)
        elif "magnitude" in name:
            parameter.mul_(1 + 0.2 * noise)
        else:
            parameter.add_(0.1 * noise)


def make(name: str, folder: Path, seed: int) -> None:
    model, options = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    batch = ref.Batch.read(GOLDEN / "fixtures" / model / "batch.json")
    adapted = get_peft_model(ref.load(GOLDEN / "fixtures" / model), config_of(options))
    move(adapted, generator)
    adapted.eval()
    adapted.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()
    path = folder / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": f"fixtures/{model}"}
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])  # PEFT writes a set: its order is not reproducible
    path.write_text(json.dumps(config, indent=1) + "\n")

    base = ref.logits_of(ref.load(GOLDEN / "fixtures" / model), batch)
    expected = {"adapted_logits": ref.logits_of(adapted, batch)}
    loss = ref.supervised_loss(adapted, batch)
    loss.backward()
    gradients = {key: parameter.grad for key, parameter in trained(adapted).items()}
    # The fixture is worth something only if it can tell right from wrong.
    assert ref.relative_error(expected["adapted_logits"], base) > 0.03, "idle adapter"
    assert all(gradient.norm() > 1e-5 for gradient in gradients.values())
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert gradients.keys() <= saved.keys(), gradients.keys() - saved.keys()
    expected |= {f"grad.{key}": gradient for key, gradient in gradients.items()}
    save_file({key: tensor.contiguous() for key, tensor in expected.items()}, folder / "expected.safetensors")
    method = "dora" if "use_dora" in options else "vera" if "vera" in options else "lora"
    ref.write_json(
        folder / "expected.json",
        {"versions": ref.versions(), "method": method, "base": model, "loss": loss.item()},
    )


def roundtrip(name: str) -> None:
    model, _ = CASES[name]
    base = GOLDEN / "fixtures" / model
    with tempfile.TemporaryDirectory() as scratch:
        ours = Path(scratch) / "adapter"
        command = ["node", "--input-type=module", "-e", REWRITE, str(base), str(FIXTURES / name / "adapter"), str(ours)]
        subprocess.run(command, cwd=ROOT, check=True)
        loaded = PeftModel.from_pretrained(ref.load(base), ours, is_trainable=True).eval()
        batch = ref.Batch.read(base / "batch.json")
        expected = load_file(FIXTURES / name / "expected.safetensors")
        assert ref.relative_error(ref.logits_of(loaded, batch), expected["adapted_logits"]) < 1e-6, name
        names = {key.removeprefix("grad.") for key in expected if key.startswith("grad.")}
        assert trained(loaded).keys() == names, trained(loaded).keys() ^ names
    print(f"{name}: what lowrank wrote is the same to PEFT")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the golden fixtures of LoRA's options.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"which ones: {', '.join(CASES)} (default: all)")
    parser.add_argument("--roundtrip", action="store_true", help="check what lowrank writes instead")
    args = parser.parse_args()
    unknown = set(args.cases) - set(CASES)
    if unknown:
        parser.error(f"no case called {', '.join(sorted(unknown))}; known: {', '.join(CASES)}")
    ref.be_deterministic()
    warnings.filterwarnings("ignore", module="peft")
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(CASES):
        if args.cases and name not in args.cases:
            continue
        if args.roundtrip:
            roundtrip(name)
            continue
        with tempfile.TemporaryDirectory(dir=FIXTURES, prefix=".new-") as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            make(name, folder, seed)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            shutil.rmtree(FIXTURES / name, ignore_errors=True)
            folder.rename(FIXTURES / name)
        print(f"{name}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
