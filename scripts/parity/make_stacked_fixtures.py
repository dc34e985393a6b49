#!/usr/bin/env python3
"""Makes test/golden/fixtures-stacked: LoRA of stacked experts (target_parameters), as PEFT writes it with transformers 5.

    .venv/bin/python scripts/parity/make_stacked_fixtures.py [CASE…]

Each case is a folder:
    adapter/                what PEFT wrote, B != 0
    expected.safetensors    adapted_logits and merged_logits [B, S, V] for the batch of the model
    expected.json           the model of fixtures/, versions
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model

import fixtures as fx
import reference as ref


@dataclass(frozen=True)
class Case:
    base: str
    lora: dict = field(default_factory=dict)


CASES = {
    # The router too; gate and up, which PEFT gives twice the rank.
    "mixtral-all-linear": Case("mixtral", {"target_modules": "all-linear"}),
    "mixtral-router": Case("mixtral", {"target_modules": ["q_proj", "gate"], "r": 3}),
    "qwen3_moe-experts": Case(
        "qwen3_moe",
        {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"], "r": 3},
    ),
    "qwen3_moe-down": Case("qwen3_moe", {"target_modules": ["v_proj"], "target_parameters": ["down_proj"]}),
    "qwen3_moe-patterns": Case(
        "qwen3_moe",
        {
            "target_modules": r".*\.self_attn\.[qk]_proj",
            "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
            "rank_pattern": {"gate_up_proj": 5, "q_proj": 2},
            "alpha_pattern": {"experts.down_proj": 3},
            "use_rslora": True,
        },
    ),
}


def make(name: str, folder: Path, seed: int) -> None:
    case = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    options = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"}
    model = get_peft_model(fx.load_base(case.base), LoraConfig(**options | case.lora))
    with torch.no_grad():
        for key, parameter in ref.adapter_parameters(model).items():
            scale = 0.1 if ".lora_B." in key else parameter.shape[1] ** -0.5
            parameter.normal_(0, scale, generator=generator)
    fx.save_adapter(model, case.base, folder / "adapter")
    batch = fx.batch_of(case.base)
    saved = PeftModel.from_pretrained(fx.load_base(case.base), folder / "adapter").eval()
    expected = {"adapted_logits": ref.logits_of(saved, batch)}
    with saved.disable_adapter():
        base = ref.logits_of(saved, batch)
    assert ref.relative_error(expected["adapted_logits"], base) > 0.02, f"{name}: idle adapter"
    expected["merged_logits"] = ref.logits_of(saved.merge_and_unload(), batch)
    fx.write_expected(folder, expected, {"base": case.base})


if __name__ == "__main__":
    fx.main("fixtures-stacked", CASES, make)
