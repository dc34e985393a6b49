#!/usr/bin/env python3
"""Makes test/golden/fixtures-combine: what PEFT's add_weighted_adapter makes of tiny adapters.

    .venv/bin/python scripts/parity/make_combine_fixtures.py

    a, b, c/               adapters on fixtures/smollm2, written by PEFT: of two layouts, scales and ranks
    expected.safetensors   <case>.<adapter key>: A and B; of the cases by svd, whose vectors have no sign of their own,
                           <case>.<module>.product: B·A
    expected.json          the cases: adapters, weights and options by PEFT's names; versions
Runs in a few seconds. Left out: DARE, which prunes by PyTorch's random numbers, and svd_clamp, whose threshold depends
on the signs that LAPACK happens to give the vectors.
"""

from __future__ import annotations

import json
import shutil

import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

import fixtures as fx

FIXTURES = fx.GOLDEN / "fixtures-combine"
MODEL = "smollm2"

# b scales by alpha / sqrt(r) and has modules that a has not; a scales its modules unequally; c is of another rank.
ADAPTERS = {
    "a": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"v_proj": 2}},
    "b": {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "o_proj"], "use_rslora": True},
    "c": {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]},
}
TWO = {"adapters": ["a", "b"], "weights": [0.7, 0.3]}
CASES = {
    "linear": TWO | {"combination_type": "linear"},
    "linear_minus": TWO | {"weights": [1.0, -0.5], "combination_type": "linear"},
    "cat": {"adapters": ["a", "b", "c"], "weights": [0.7, -0.3, 1.5], "combination_type": "cat"},
    "ties": TWO | {"combination_type": "ties", "density": 0.5},
    "ties_frequency": TWO | {"combination_type": "ties", "density": 0.7, "majority_sign_method": "frequency"},
    "magnitude_prune": TWO | {"combination_type": "magnitude_prune", "density": 0.4},
    "svd": {"adapters": ["a", "b", "c"], "weights": [0.7, -0.3, 1.5], "combination_type": "svd"},
    "svd_rank": TWO | {"combination_type": "svd", "svd_rank": 3},
    "ties_svd": TWO | {"combination_type": "ties_svd", "density": 0.5},
    "magnitude_prune_svd": TWO | {"combination_type": "magnitude_prune_svd", "density": 0.3, "svd_rank": 6},
}


def randomize(adapted: PeftModel, name: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if f".{name}." in key:
                parameter.copy_(torch.empty_like(parameter).normal_(0, 0.3, generator=generator))


def result(adapted: PeftModel, case: str) -> dict[str, torch.Tensor]:
    tensors = {}
    for module_name, module in adapted.base_model.model.named_modules():
        if not hasattr(module, "lora_A") or case not in module.lora_A:
            continue
        a, b = module.lora_A[case].weight.detach(), module.lora_B[case].weight.detach()
        assert module.scaling[case] == 1
        if "svd" in case:
            tensors[f"{case}.{module_name}.product"] = (b @ a).contiguous()
        else:
            tensors[f"{case}.{module_name}.lora_A"] = a.clone()
            tensors[f"{case}.{module_name}.lora_B"] = b.clone()
    return tensors


def main() -> None:
    shutil.rmtree(FIXTURES, ignore_errors=True)
    FIXTURES.mkdir()
    base = fx.load_base(MODEL)
    adapted: PeftModel | None = None
    for seed, (name, options) in enumerate(ADAPTERS.items()):
        config = LoraConfig(task_type="CAUSAL_LM", **options)
        if adapted is None:
            adapted = get_peft_model(base, config, adapter_name=name)
        else:
            adapted.add_adapter(name, config)
        randomize(adapted, name, seed)
    adapted.save_pretrained(FIXTURES)
    (FIXTURES / "README.md").unlink()
    for name in ADAPTERS:
        fx.clean_config(FIXTURES / name, MODEL)
    expected: dict[str, torch.Tensor] = {}
    for case, options in CASES.items():
        adapted.add_weighted_adapter(adapter_name=case, **options)
        expected |= result(adapted, case)
    save_file(expected, FIXTURES / "expected.safetensors")
    facts = {"cases": CASES, "versions": {"peft": peft.__version__, "torch": torch.__version__}}
    (FIXTURES / "expected.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
