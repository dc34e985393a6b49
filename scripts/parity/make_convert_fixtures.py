#!/usr/bin/env python3
"""Makes test/golden/fixtures-convert: what PEFT's convert_to_lora makes of adapters of test/golden/fixtures-methods.

    .venv/bin/python scripts/parity/make_convert_fixtures.py            # all cases, in place of what is there
    .venv/bin/python scripts/parity/make_convert_fixtures.py qwen2-vera # one

Each case is a folder named after the adapter:
    expected.safetensors   the product B·A of each module of the first layer, at rank 3 (of MiSS but bat, whose rank PEFT keeps, at that)
    expected.json          ranks of all modules at 90% of the energy, versions
"""

from __future__ import annotations

from pathlib import Path

from peft import convert_to_lora

import fixtures as fx
import reference as ref

CASES = ["qwen2-vera", "smollm2-vera", "qwen2-miss", "qwen2-miss_mini", "qwen2-miss_bat"]
RANK = 3
ENERGY = 0.9
PREFIX = "base_model.model."


def converted(name: str, rank: float):
    model = name.split("-")[0]
    adapted = fx.load_adapter(model, fx.GOLDEN / "fixtures-methods" / name / "adapter")
    return convert_to_lora(adapted, rank)


def make(name: str, folder: Path, seed: int) -> None:
    _, state = converted(name, RANK)
    products = {}
    for key, a in state.items():
        module = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        if key.endswith(".lora_A.weight") and ".layers.0." in key:
            # Its scale is 1.
            products[module] = state[key.replace("lora_A", "lora_B")] @ a
    _, state = converted(name, ENERGY)
    ranks = {
        key.removeprefix(PREFIX).removesuffix(".lora_A.weight"): a.shape[0]
        for key, a in state.items()
        if key.endswith(".lora_A.weight")
    }
    assert len(products) == 7 and len(ranks) == 14
    facts = {"base": name.split("-")[0], "rank": RANK, "energy": ENERGY, "ranks": ranks}
    fx.write_expected(folder, products, facts)


if __name__ == "__main__":
    fx.main("fixtures-convert", CASES, make)
