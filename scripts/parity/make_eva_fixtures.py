#!/usr/bin/env python3
"""Makes test/golden/fixtures-eva: where PEFT's EVA starts a LoRA, which ranks it chooses, and how that trains.

    .venv/bin/python scripts/parity/make_eva_fixtures.py

Each case is a folder <model>-<case>:
    start.safetensors      A (and DoRA's magnitudes) as PEFT starts them, by the names in adapter_model.safetensors
    adapter/               the adapter that PEFT saves after the recipe's steps
    expected.safetensors   start_logits, trained_logits [B, S, V] (zero at the padding)
    expected.json          method, PEFT's options and EvaConfig, the targets, ranks and alphas of the start, loss, the recipe
                           and losses of 20 AdamW steps, versions
EVA looks at the batch of fixtures/<model>, again and again until its directions have settled: for one batch PEFT's incremental
PCA is exact. Runs in a few seconds.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights

import fixtures as fx
import reference as ref

CASES = {
    "qwen2-plain": (
        {"r": 4, "lora_alpha": 6, "target_modules": "all-linear"},
        {},
    ),
    "smollm2-patterns": (
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": "all-linear",
            "rank_pattern": {"k_proj": 2},
            "alpha_pattern": {"k_proj": 3},
            "use_rslora": True,
        },
        {"rho": 1.5, "use_label_mask": False},
    ),
    # No two of these have one input: PEFT whitens what such share once for each of them.
    "llama2-whitened": (
        {"r": 3, "lora_alpha": 6, "target_modules": ["lm_head", "q_proj", "o_proj", "down_proj"], "use_dora": True},
        {"whiten": True, "adjust_scaling_factors": False},
    ),
}
RECIPE = ref.RECIPE | {"learning_rate": 5e-3}


def inputs_of(batch: ref.Batch) -> dict[str, torch.Tensor]:
    """The batch as a data loader gives it; a label stands at the token itself."""
    labels = torch.full_like(batch.ids, -100)
    labels.view(-1)[batch.rows + 1] = batch.next_ids
    return {"input_ids": batch.ids, "attention_mask": batch.mask, "labels": labels}


def make(name: str, folder: Path, seed: int) -> None:
    options, eva = CASES[name]
    model = name.split("-")[0]
    batch = fx.batch_of(model)
    base = fx.load_base(model)
    base_logits = ref.logits_of(base, batch)
    config = LoraConfig(**options, init_lora_weights="eva", eva_config=EvaConfig(**eva), task_type="CAUSAL_LM")
    adapted = get_peft_model(base, config)
    initialize_lora_eva_weights(adapted, [inputs_of(batch)], show_progress_bar=False)
    adapted.eval()
    start = fx.snapshot(adapted)
    expected = {"start_logits": ref.logits_of(adapted, batch)}
    assert ref.relative_error(expected["start_logits"], base_logits) < 1e-5
    chosen = adapted.peft_config["default"]
    ranks = {
        key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): len(value)
        for key, value in start.items()
        if "lora_A" in key
    }
    assert len(set(ranks.values())) > 1, "nothing was redistributed"
    patterns = {"rank_pattern": chosen.rank_pattern, "alpha_pattern": chosen.alpha_pattern}

    loss, _ = ref.gradients_of(adapted, batch)
    log = ref.train(adapted, batch, RECIPE)
    assert log["losses"][-1] < 0.9 * log["losses"][0], "training does nothing"
    expected["trained_logits"] = ref.logits_of(adapted, batch)
    fx.save_adapter(adapted, model, folder / "adapter", save_embedding_layers=False)
    # B is zero.
    fx.save_tensors(folder / "start.safetensors", {key: value for key, value in start.items() if "lora_B" not in key})
    own = {key: value for key, value in options.items() if key != "use_dora"}
    facts = {
        "method": "dora" if options.get("use_dora") else "lora",
        "base": model,
        "options": own | {"init_lora_weights": "eva", "eva_config": eva},
        "ranks": ranks,
        **patterns,
        "loss": loss,
        "recipe": RECIPE,
        **log,
    }
    fx.write_expected(folder, expected, facts)


if __name__ == "__main__":
    fx.main("fixtures-eva", CASES, make)
