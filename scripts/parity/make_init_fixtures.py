#!/usr/bin/env python3
"""Makes test/golden/fixtures-init: what PEFT computes with methods that start LoRA in a part of the base.

    .venv/bin/python scripts/parity/make_init_fixtures.py

Each case is a folder <model>-<method>:
    start.safetensors      A and B as PEFT starts them, by the names in adapter_model.safetensors
    adapter/               after the recipe's steps, converted by PEFT into a LoRA of twice the rank for the original base
    unconverted/           the same as it is when nobody asks for that
    expected.safetensors   start_logits, trained_logits [B, S, V] (zero at the padding), grad.<adapter key> at the start
    expected.json          PEFT's options, loss, the recipe and losses of 20 AdamW steps, versions
The model and the batch are those of fixtures/<model>. Runs in a few seconds.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from peft import LoraConfig, get_peft_model

import fixtures as fx
import reference as ref

OPTIONS = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear"}
CASES = {
    "qwen2-pissa": OPTIONS,
    "smollm2-pissa": OPTIONS | {"use_rslora": True},
    "qwen2-olora": OPTIONS | {"rank_pattern": {"k_proj": 2}},
    "smollm2-olora": OPTIONS,
}
RECIPE = ref.RECIPE | {"learning_rate": 5e-3}


def make(name: str, folder: Path, seed: int) -> None:
    model, method = name.split("-")
    options = CASES[name]
    batch = fx.batch_of(model)
    base = fx.load_base(model)
    base_logits = ref.logits_of(base, batch)
    config = LoraConfig(**options, init_lora_weights=method, task_type="CAUSAL_LM")
    adapted = get_peft_model(base, config).eval()
    start = fx.snapshot(adapted)
    expected = {"start_logits": ref.logits_of(adapted, batch)}
    assert ref.relative_error(expected["start_logits"], base_logits) < 1e-5

    # The conversion wants the start under a neutral init_lora_weights.
    initial = folder / "initial"
    adapted.peft_config["default"].init_lora_weights = True
    adapted.save_pretrained(initial)
    adapted.peft_config["default"].init_lora_weights = method
    loss, gradients = ref.gradients_of(adapted, batch)
    expected |= fx.named_gradients(gradients)
    log = ref.train(adapted, batch, RECIPE)
    assert log["losses"][-1] < 0.9 * log["losses"][0], "training does nothing"
    expected["trained_logits"] = ref.logits_of(adapted, batch)
    # Not converted, PEFT takes the start out of the base again when it loads the adapter.
    fx.save_adapter(adapted, model, folder / "unconverted")
    again = fx.load_adapter(model, folder / "unconverted")
    assert ref.relative_error(ref.logits_of(again, batch), expected["trained_logits"]) < 1e-5
    fx.save_adapter(adapted, model, folder / "adapter", path_initial_model_for_weight_conversion=str(initial))
    shutil.rmtree(initial)
    converted = fx.load_adapter(model, folder / "adapter")
    assert ref.relative_error(ref.logits_of(converted, batch), expected["trained_logits"]) < 1e-5

    fx.save_tensors(folder / "start.safetensors", start)
    facts = {"method": method, "base": model, "options": options, "loss": loss, "recipe": RECIPE, **log}
    fx.write_expected(folder, expected, facts)


if __name__ == "__main__":
    fx.main("fixtures-init", CASES, make)
