#!/usr/bin/env python3
"""Makes test/golden/fixtures-init: what PEFT computes with methods that start LoRA in a part of the base.

    .venv/bin/python scripts/parity/make_init_fixtures.py

Each case is a folder <model>-<method>:
    start.safetensors      A and B as PEFT starts them, by the names in adapter_model.safetensors
    adapter/               after the recipe's steps, converted by PEFT into a LoRA of twice the rank for the original base
    expected.safetensors   start_logits, trained_logits [B, S, V] (zero at the padding), grad.<adapter key> at the start
    expected.json          PEFT's options, loss, the recipe and losses of 20 AdamW steps, versions
The model and the batch are those of fixtures/<model>. Runs in a few seconds.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

import reference as ref

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
FIXTURES = GOLDEN / "fixtures-init"

OPTIONS = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear"}
CASES = [
    ("qwen2", "pissa", OPTIONS),
    ("smollm2", "pissa", OPTIONS | {"use_rslora": True}),
    ("qwen2", "olora", OPTIONS | {"rank_pattern": {"k_proj": 2}}),
    ("smollm2", "olora", OPTIONS),
]
RECIPE = ref.RECIPE | {"learning_rate": 5e-3}


def make(model: str, method: str, options: dict, folder: Path) -> None:
    batch = ref.Batch.read(GOLDEN / "fixtures" / model / "batch.json")
    base = ref.load(GOLDEN / "fixtures" / model)
    base_logits = ref.logits_of(base, batch)
    config = LoraConfig(**options, init_lora_weights=method, task_type="CAUSAL_LM")
    adapted = get_peft_model(base, config).eval()
    start = {key: value.detach().clone() for key, value in ref.adapter_parameters(adapted).items()}
    expected = {"start_logits": ref.logits_of(adapted, batch)}
    assert ref.relative_error(expected["start_logits"], base_logits) < 1e-5

    # The conversion wants the start under a neutral init_lora_weights.
    initial = folder / "initial"
    adapted.peft_config["default"].init_lora_weights = True
    adapted.save_pretrained(initial)
    adapted.peft_config["default"].init_lora_weights = method
    loss, gradients = ref.gradients_of(adapted, batch)
    expected |= {f"grad.{key}": gradient for key, gradient in gradients.items()}
    log = ref.train(adapted, batch, RECIPE)
    assert log["losses"][-1] < 0.9 * log["losses"][0], "training does nothing"
    expected["trained_logits"] = ref.logits_of(adapted, batch)
    adapted.save_pretrained(folder / "adapter", path_initial_model_for_weight_conversion=str(initial))
    shutil.rmtree(initial)
    (folder / "adapter" / "README.md").unlink()
    path = folder / "adapter" / "adapter_config.json"
    saved = json.loads(path.read_text()) | {"base_model_name_or_path": f"fixtures/{model}"}
    saved["target_modules"] = sorted(saved["target_modules"])
    path.write_text(json.dumps(saved, indent=1) + "\n")
    converted = PeftModel.from_pretrained(ref.load(GOLDEN / "fixtures" / model), folder / "adapter").eval()
    assert ref.relative_error(ref.logits_of(converted, batch), expected["trained_logits"]) < 1e-5

    save_file({key: tensor.contiguous() for key, tensor in start.items()}, folder / "start.safetensors")
    save_file({key: tensor.contiguous() for key, tensor in expected.items()}, folder / "expected.safetensors")
    ref.write_json(
        folder / "expected.json",
        {
            "versions": ref.versions(),
            "method": method,
            "base": model,
            "options": options,
            "loss": loss,
            "recipe": RECIPE,
            **log,
        },
    )


def main() -> None:
    ref.be_deterministic()
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for model, method, options in CASES:
        name = f"{model}-{method}"
        with tempfile.TemporaryDirectory(dir=FIXTURES, prefix=".new-") as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            make(model, method, options, folder)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            shutil.rmtree(FIXTURES / name, ignore_errors=True)
            folder.rename(FIXTURES / name)
        print(f"{name}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
