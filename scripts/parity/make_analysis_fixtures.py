#!/usr/bin/env python3
"""Makes test/golden/fixtures-analysis: what NumPy finds in adapters of PEFT on the tiny models of test/golden/fixtures.

    .venv/bin/python scripts/parity/make_analysis_fixtures.py             # all cases, in place of what is there
    .venv/bin/python scripts/parity/make_analysis_fixtures.py qwen2-dora  # one

Each case is a folder <model>-<what>:
    adapter/, other/   two adapters that PEFT trained, where the case is of two; else expected.json names one of the other fixtures
    expected.json      for each layer the figures of docs/analysis.md, by whole SVDs of ΔW (PEFT's merged matrix less the
                       base's), of W and of A and B, in float64
The definitions stand here once more, in NumPy, and share nothing with the program's. Runs in a few seconds.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

import fixtures as fx
import reference as ref

# Two ranks and two seeds: LoRA (α/r) beside rsLoRA (α/√r).
TRAINED = {
    "adapter": {"r": 4, "lora_alpha": 8, "seed": 1},
    "other": {"r": 6, "lora_alpha": 6, "use_rslora": True, "seed": 2},
}
RECIPE = ref.RECIPE | {"learning_rate": 1e-2}
ONE = {
    "qwen2-dora": "fixtures-methods/qwen2-dora/adapter",
    "smollm2-vera": "fixtures-methods/smollm2-vera/adapter",
    "qwen2-adalora": "fixtures-adalora/qwen2/adapter",
    "smollm2-embedding": "fixtures-options/smollm2-embedding/adapter",
    "qwen2-pissa": "fixtures-init/qwen2-pissa/adapter",
}
CASES = ["smollm2-trained", *ONE]
K, EPSILON = 10, 0.5
# Directions that are set beside W: the rank of the factors, or of a change that fills its matrix so many.
DENSE_DIRECTIONS = 8


def train(model: str, folder: Path, config: dict) -> None:
    torch.manual_seed(config["seed"])
    options = {key: value for key, value in config.items() if key != "seed"}
    adapted = get_peft_model(
        fx.load_base(model), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", **options)
    )
    log = ref.train(adapted, fx.batch_of(model), RECIPE)
    assert log["losses"][-1] < 0.9 * log["losses"][0], "training does nothing"
    fx.save_adapter(adapted, model, folder)


def weights(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Matrices of the layers in their own direction, [out, in]."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            found[name] = module.weight.detach().double().numpy()
        if isinstance(module, torch.nn.Embedding):
            found[name] = module.weight.detach().double().numpy().T
    return found


def factors(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """LoRA's A and B by layer, and those that other methods have instead."""
    tensors = {
        key.removeprefix("base_model.model."): value.double().numpy()
        for key, value in load_file(folder / "adapter_model.safetensors").items()
    }
    found = {}
    for key, value in tensors.items():
        for a, b, stem in ((".lora_A.weight", ".lora_B.weight", ""), (".lora_embedding_A", ".lora_embedding_B", "")):
            if key.endswith(a):
                found[key.removesuffix(a)] = (value, tensors[key.removesuffix(a) + b])
        if key.endswith(".lora_A") and key.removesuffix("A") + "E" in tensors:
            site = key.removesuffix(".lora_A")
            left = tensors[f"{site}.lora_E"][:, 0] != 0
            found[site] = ((value * tensors[f"{site}.lora_E"])[left], tensors[f"{site}.lora_B"][:, left])
        if key.endswith(".vera_lambda_b"):
            site = key.removesuffix(".vera_lambda_b")
            lambda_d = tensors[f"{site}.vera_lambda_d"]
            found[site] = (lambda_d[:, None], value)
    return found


def figures(change: np.ndarray, rank: int) -> dict:
    s = np.linalg.svd(change, compute_uv=False)[:rank]
    energy = np.cumsum(s**2) / np.sum(s**2)
    p = s[s > 0] / s.sum()
    return {
        "rank": rank,
        "values": digits(s),
        "norm": np.linalg.norm(change),
        "entropy": float(np.exp(-np.sum(p * np.log(p)))),
        "stable": float(np.linalg.norm(change) ** 2 / s[0] ** 2),
        "of90": int(np.argmax(energy >= 0.9 - 1e-12)) + 1,
        "of99": int(np.argmax(energy >= 0.99 - 1e-12)) + 1,
    }


def relation(w: np.ndarray, change: np.ndarray, r: int) -> dict:
    def projected(m: np.ndarray) -> float:
        u, _, vt = np.linalg.svd(m, full_matrices=False)
        return float(np.linalg.norm(u[:, :r].T @ w @ vt[:r].T))

    of_change = projected(change)
    return {
        "directions": r,
        "ofChange": of_change,
        "ofWeight": projected(w),
        "weightNorm": float(np.linalg.norm(w)),
        "changeNorm": float(np.linalg.norm(change)),
        "amplification": float(np.linalg.norm(change) / of_change),
    }


def intruders(w: np.ndarray, change: np.ndarray) -> int:
    """As peft.tuners.lora.intruders.reduce_intruder_dimension finds them."""
    before = np.linalg.svd(w, full_matrices=False)[0]
    after = np.linalg.svd(w + change, full_matrices=False)[0]
    return int(np.sum(np.abs(after.T @ before).max(axis=1)[:K] < EPSILON))


def compare(first: np.ndarray, second: np.ndarray) -> dict:
    """Of orthonormal rows."""
    cosines = first @ second.T
    phi = [
        [float(np.linalg.norm(cosines[: i + 1, : j + 1]) ** 2 / (min(i, j) + 1)) for j in range(len(second))]
        for i in range(len(first))
    ]
    angles = np.arccos(np.clip(np.linalg.svd(cosines, compute_uv=False), -1, 1))
    return {"phi": [digits(row) for row in phi], "distance": float(np.linalg.norm(angles))}


def right(a: np.ndarray) -> np.ndarray:
    return np.linalg.svd(a, full_matrices=False)[2]


def digits(values) -> list[float]:
    return [float(f"{value:.9g}") for value in values]


def changes_of(model: str, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """W and ΔW of each layer that differs."""
    base = weights(fx.load_base(model))
    # In float64: a change is the difference of matrices that are far larger.
    adapted: PeftModel = fx.load_adapter(model, folder).double()
    merged = weights(adapted.merge_and_unload())
    return base, {name: merged[name] - w for name, w in base.items() if np.any(merged[name] != w)}


def make(name: str, folder: Path, _: int) -> None:
    model = name.split("-")[0]
    trained = name not in ONE
    if trained:
        for which, config in TRAINED.items():
            train(model, folder / which, config)
    at = folder / "adapter" if trained else fx.GOLDEN / ONE[name]
    base, changes = changes_of(model, at)
    own = factors(at)
    theirs = factors(folder / "other") if trained else {}
    other = changes_of(model, folder / "other")[1] if trained else {}
    dense = name.endswith("dora")
    modules = {}
    for site, change in changes.items():
        w = base[site]
        # A head that is tied to its embedding, and changes with it, is told once.
        if site not in own:
            continue
        rank = min(w.shape) if dense else min(*w.shape, len(own[site][0]))
        r = min(DENSE_DIRECTIONS if dense else rank, *w.shape)
        modules[site] = {"change": figures(change, rank), "relation": relation(w, change, r), "intruders": intruders(w, change)}
        if trained:
            (a, b), (a2, b2) = own[site], theirs[site]
            modules[site]["other"] = figures(other[site], len(a2))
            modules[site]["a"] = compare(right(a), right(a2))
            modules[site]["b"] = compare(right(b.T), right(b2.T))
    facts = {"versions": ref.versions() | {"numpy": version("numpy")}, "base": model}
    facts |= {} if trained else {"adapter": ONE[name]}
    ref.write_json(folder / "expected.json", facts | {"k": K, "epsilon": EPSILON} | {"modules": modules})


if __name__ == "__main__":
    fx.main("fixtures-analysis", CASES, make)
