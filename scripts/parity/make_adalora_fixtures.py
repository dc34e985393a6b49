#!/usr/bin/env python3
"""Makes test/golden/fixtures-adalora: 20 steps of PEFT's AdaLoRA on the tiny models of test/golden/fixtures.

    .venv/bin/python scripts/parity/make_adalora_fixtures.py

Each case is a folder named after its model:
    start.safetensors      P, Lambda and Q as PEFT starts them, by the names in adapter_model.safetensors
    adapter/               after the steps, written by PEFT, ranks pruned
    expected.safetensors   trained_logits, merged_logits [B, S, V] (zero at the padding)
    expected.json          the options; losses (the penalty apart), penalties, gradient norms, and after each step which
                           ranks are left of each module (1) and which are pruned (0), null before the first pruning
update_and_allocate is called after the optimizer's step with the number of steps done, 1 to 20. Runs in a few seconds.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model

import fixtures as fx
import reference as ref

COMMON = {"init_r": 4, "lora_alpha": 16, "target_modules": "all-linear", "orth_reg_weight": 0.3}
CASES = {
    # Pruned at each step between the third and the fifth before the end; some modules lose every rank.
    "smollm2": ("smollm2", COMMON | {"target_r": 1, "tinit": 3, "tfinal": 5, "deltaT": 1, "beta1": 0.7}),
    # Pruned at every third step, so that ranks come back in between.
    "qwen2": ("qwen2", COMMON | {"target_r": 2, "tinit": 2, "tfinal": 4, "deltaT": 3, "beta2": 0.9}),
}
RECIPE = ref.RECIPE | {"learning_rate": 2e-2}


def penalty_of(model: PeftModel, batch: ref.Batch) -> torch.Tensor:
    """PEFT's own: what its forward adds to a loss."""
    config = model.peft_config["default"]
    inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "labels": batch.ids}
    weight, with_penalty = config.orth_reg_weight, model(**inputs).loss
    config.orth_reg_weight = 0
    without = model(**inputs).loss
    config.orth_reg_weight = weight
    return with_penalty - without


def make(name: str, folder: Path, seed: int) -> None:
    torch.manual_seed(1)
    model, options = CASES[name]
    batch = fx.batch_of(model)
    config = AdaLoraConfig(**options, total_step=RECIPE["steps"], task_type="CAUSAL_LM")
    adapted = get_peft_model(fx.load_base(model), config).eval()
    fx.save_tensors(folder / "start.safetensors", fx.snapshot(adapted))
    ranks = []

    def after(step: int) -> None:
        adapted.base_model.update_and_allocate(step)
        pattern = adapted.peft_config["default"].rank_pattern
        digits = {key: "".join(str(int(left)) for left in lefts) for key, lefts in (pattern or {}).items()}
        ranks.append({key.removesuffix(".lora_E.default"): left for key, left in digits.items()} or None)

    log = ref.train(adapted, batch, RECIPE, penalty=lambda: penalty_of(adapted, batch), after=after)
    assert log["losses"][-1] < 0.9 * log["losses"][0], "training does nothing"
    assert ranks[-1] != ranks[-12], "nothing is pruned"
    trained = ref.logits_of(adapted, batch)
    fx.save_adapter(adapted, model, folder / "adapter", indent=None)
    loaded = fx.load_adapter(model, folder / "adapter")
    assert ref.relative_error(ref.logits_of(loaded, batch), trained) < 1e-5
    expected = {"trained_logits": trained, "merged_logits": ref.logits_of(loaded.merge_and_unload(), batch)}
    facts = {"base": model, "options": options, "loss": log["losses"][0], "recipe": RECIPE, **log, "ranks": ranks}
    fx.write_expected(folder, expected, facts)


if __name__ == "__main__":
    fx.main("fixtures-adalora", CASES, make)
