#!/usr/bin/env python3
"""Makes test/golden/fixtures-methods: what PEFT computes with LoRA's descendants on the tiny models of test/golden/fixtures.

    .venv/bin/python scripts/parity/make_method_fixtures.py            # all cases, in place of what is there
    .venv/bin/python scripts/parity/make_method_fixtures.py qwen2-dora # one

Each case is a folder <model>-<method>, or <model>-<method>_<kind>:
    adapter/               the adapter in the middle of its training, written by PEFT
    expected.safetensors   adapted_logits, merged_logits [B, S, V] (zero at the padding) and grad.<adapter key>: the
                           gradient of the mean loss for everything that trains
    expected.json          loss, the recipe and losses of 20 AdamW steps, versions
The model and the batch are those of fixtures/<model>. Runs in a few seconds.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from peft import HiraConfig, LoraConfig, MissConfig, PeftConfig, PeftModel, VeraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer

import fixtures as fx
import reference as ref

LORAPLUS_RATIO = 4.0

COMMON = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LORA = COMMON | {"r": 4, "lora_alpha": 8}
METHODS: dict[str, PeftConfig] = {
    "dora": LoraConfig(**LORA, use_dora=True),
    # The first is in one row of smollm2's batch, the other in two of the three of qwen2's.
    "alora": LoraConfig(**LORA, alora_invocation_tokens=[88, 62]),
    "alora_one": LoraConfig(**LORA, alora_invocation_tokens=[24]),
    "vera": VeraConfig(**COMMON, r=12),
    "loraplus": LoraConfig(**LORA),
    "lorafa": LoraConfig(**LORA),
    # Of 32 and 48 inputs neither is a whole number of shards.
    "miss": MissConfig(**COMMON, r=5),
    "miss_mini": MissConfig(**COMMON, r=4, mini_r=8, init_weights="mini"),
    "miss_bat": MissConfig(**COMMON, r=4, init_weights="bat"),
    # PEFT 0.21.2 takes no notice of the pattern.
    "hira": HiraConfig(**COMMON, r=4, rank_pattern={"k_proj": 2}),
    "hira_embed": HiraConfig(task_type="CAUSAL_LM", target_modules=["embed_tokens", "v_proj"], r=4),
}
RECIPES = {
    "dora": ref.RECIPE | {"learning_rate": 1e-2},
    "alora": ref.RECIPE | {"learning_rate": 2e-2},
    "alora_one": ref.RECIPE | {"learning_rate": 2e-2},
    "vera": ref.RECIPE | {"learning_rate": 2e-2},
    "loraplus": ref.RECIPE | {"learning_rate": 4e-3},
    "lorafa": ref.RECIPE | {"learning_rate": 1e-2},
    "miss": ref.RECIPE | {"learning_rate": 4e-3},
    "miss_mini": ref.RECIPE | {"learning_rate": 1e-2},
    "miss_bat": ref.RECIPE | {"learning_rate": 1e-2},
    "hira": ref.RECIPE | {"learning_rate": 2e-2},
    "hira_embed": ref.RECIPE | {"learning_rate": 2e-2},
}
# qwen2: biases on q, k and v. smollm2: none, a tied head, one head of keys. mistral: a head of its own, in float16.
# gpt2: matrices stored as [in, out].
CASES = [
    "qwen2-dora",
    "smollm2-dora",
    "qwen2-vera",
    "smollm2-vera",
    "smollm2-alora",
    "qwen2-alora_one",
    "qwen2-loraplus",
    "smollm2-lorafa",
    "qwen2-miss",
    "smollm2-miss",
    "qwen2-miss_mini",
    "qwen2-miss_bat",
    "smollm2-miss_bat",
    "qwen2-hira",
    "smollm2-hira",
    "mistral-hira_embed",
    "gpt2-hira",
]


def attach(model: str, config: PeftConfig, generator: torch.Generator) -> PeftModel:
    # PEFT notes the base in the configuration it is given.
    adapted = get_peft_model(fx.load_base(model), copy.copy(config))
    with torch.no_grad():
        for key, parameter in ref.adapter_parameters(adapted).items():
            noise = torch.empty_like(parameter).normal_(0, 1, generator=generator)
            if key.endswith(".hira_A"):
                parameter.copy_(noise)
            elif ".lora_A." in key:
                parameter.copy_(noise * parameter.shape[1] ** -0.5)
            elif "magnitude" in key:
                parameter.mul_(1 + 0.2 * noise)
            else:
                parameter.add_(0.1 * noise)
    return adapted.eval()


def freeze_a(adapted: PeftModel) -> None:
    """The paper's method. PEFT's create_lorafa_optimizer besides multiplies B's gradient by an inverse of AAᵀ. Anything that
    switches the adapter on lets A train again."""
    for key, parameter in ref.adapter_parameters(adapted).items():
        parameter.requires_grad = ".lora_A." not in key


def optimizer_of(method: str, adapted: PeftModel, recipe: dict) -> torch.optim.Optimizer | None:
    if method != "loraplus":
        return None
    return create_loraplus_optimizer(
        adapted,
        torch.optim.AdamW,
        lr=recipe["learning_rate"],
        loraplus_lr_ratio=LORAPLUS_RATIO,
        loraplus_weight_decay=recipe["weight_decay"],
        betas=tuple(recipe["betas"]),
        eps=recipe["eps"],
        foreach=False,
    )


# Prompts of aLoRA: called once, twice, by the last tokens, by the first ones, not at all.
PROMPTS = [
    [5, 88, 62, 24, 7, 30],
    [88, 62, 24, 9, 11, 88, 62, 24, 12, 40, 3],
    [5, 17, 40, 8, 24, 88, 62],
    [5, 17, 40, 8, 88, 62, 24],
    [24, 88, 62, 8, 17],
    [5, 17, 40, 8, 88, 7, 62],
]


def generated(adapted: PeftModel, prompt: list[int]) -> dict[str, list[int]]:
    """Greedy tokens by PEFT's own generate, with its cache."""
    ids = torch.tensor([prompt])
    kept = adapted.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=None
    )
    return {"prompt": prompt, "ids": kept[0, len(prompt) :].tolist()}


def make(name: str, folder: Path, seed: int) -> None:
    model, method = name.split("-")
    generator = torch.Generator().manual_seed(seed)
    batch = fx.batch_of(model)
    adapted = attach(model, METHODS[method], generator)
    fx.save_adapter(adapted, model, folder / "adapter")
    expected = {"adapted_logits": ref.logits_of(adapted, batch)}
    with adapted.disable_adapter():
        base = ref.logits_of(adapted, batch)
    if method == "lorafa":
        freeze_a(adapted)
    loss, gradients = ref.gradients_of(adapted, batch)
    expected |= fx.named_gradients(gradients)
    # The fixture is worth something only if it can tell right from wrong.
    assert ref.relative_error(expected["adapted_logits"], base) > 0.05, "idle adapter"
    extra = {}
    if method.startswith("alora"):
        extra["generations"] = [generated(adapted, prompt) for prompt in PROMPTS]
    else:
        saved = fx.load_adapter(model, folder / "adapter")
        expected["merged_logits"] = ref.logits_of(saved.merge_and_unload(), batch)
        assert ref.relative_error(expected["merged_logits"], expected["adapted_logits"]) < 1e-5, "merge differs"
    assert all(gradient.norm() > 1e-5 for gradient in gradients.values())

    recipe = RECIPES[method]
    log = ref.train(adapted, batch, recipe, optimizer_of(method, adapted, recipe))
    assert log["losses"][-1] < 0.9 * log["losses"][0], "training does nothing"
    if method == "loraplus":
        extra["loraplus_lr_ratio"] = LORAPLUS_RATIO
    fx.write_expected(folder, expected, {"method": method.split("_")[0], "base": model, **extra, "loss": loss, "recipe": recipe, **log})


if __name__ == "__main__":
    fx.main("fixtures-methods", CASES, make)
