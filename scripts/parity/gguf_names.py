#!/usr/bin/env python3
"""Makes test/golden/fixtures-gguf/models.json: what llama.cpp calls the tensors of the tiny models of test/golden/fixtures, and what it
has in them.

    .venv/bin/python scripts/parity/gguf_names.py

Names are those of llama.cpp's gguf package (TensorNameMap), which its convert_hf_to_gguf.py takes them from. That script is
in no package, so what it does to values is spelled out here: q and k of llama, granite and smollm3 interleaved, gains of
Gemma's norms plus one, GPT-2's matrices transposed, GPT-NeoX's rows of q, k and v put together, heads that are tied left
out. Of each tensor the file keeps name, shape and the start of the sha256 of its float32 values.

Versions that made what is committed: gguf 0.19.0, safetensors 0.8.0, NumPy 2.4.6.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import gguf
import numpy as np
from safetensors.torch import load_file

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
ARCHITECTURES = {
    "mistral": "llama", "mixtral": "llama", "gemma3_text": "gemma3", "gpt_neox": "gptneox", "qwen3_moe": "qwen3moe"
}
# llama.cpp has Qwen3's experts in all layers only.
NOT_THERE = ("qwen3_moe-steps",)
INTERLEAVED = ("llama", "granite", "smollm3")


def permute(values: np.ndarray, heads: int) -> np.ndarray:
    """LlamaModel.permute"""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def by_kind(values: np.ndarray, heads: int) -> np.ndarray:
    """GPTNeoXModel.modify_tensors"""
    split = values.reshape(heads, 3, values.shape[0] // heads // 3, -1)
    return np.concatenate([split[:, kind].reshape(values.shape[0] // 3, -1) for kind in range(3)]).reshape(values.shape)


def stored(name: str, values: np.ndarray, architecture: str, config: dict) -> np.ndarray:
    if architecture in INTERLEAVED:
        if name.endswith(("q_proj.weight", "q_proj.bias")):
            return permute(values, config["num_attention_heads"])
        if name.endswith(("k_proj.weight", "k_proj.bias")):
            return permute(values, config["num_key_value_heads"])
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        return values + 1
    if architecture == "gpt2" and name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
        return values.T
    if architecture == "gptneox" and ".query_key_value." in name:
        return by_kind(values, config["num_attention_heads"])
    return values


def told(values: np.ndarray) -> list:
    return [list(values.shape), hashlib.sha256(values.tobytes()).hexdigest()[:16]]


def tensors_of(folder: Path) -> dict[str, list]:
    config = json.loads((folder / "config.json").read_text())
    architecture = ARCHITECTURES.get(config["model_type"], config["model_type"])
    number = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)
    names = gguf.get_tensor_name_map(number, config.get("num_hidden_layers") or config["n_layer"])
    found = {}
    experts: dict[str, dict[int, np.ndarray]] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        for name, values in load_file(file).items():
            # modify_tensors of LlamaModel and Qwen2MoeModel: the experts' matrices stacked, under one name.
            of_expert = re.fullmatch(r"(.*\.)(?:block_sparse_moe|mlp)(\.experts)\.(\d+)(\..*)", name)
            if of_expert:
                before, middle, number_of_it, end = of_expert.groups()
                block = ".feed_forward" if config["model_type"] == "mixtral" else ".mlp"
                merged = before.removesuffix(".") + block + middle + end
                if config["model_type"] == "mixtral":
                    merged = merged.removeprefix("model.")
                experts.setdefault(merged, {})[int(number_of_it)] = values.float().numpy()
                continue
            theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert theirs is not None, name
            own = np.ascontiguousarray(stored(name, values.float().numpy(), architecture, config), dtype=np.float32)
            found[theirs] = told(own)
    for name, matrices in experts.items():
        theirs = names.get_name(name, try_suffixes=(".weight",))
        assert theirs is not None, name
        found[theirs] = told(np.stack([matrices[i] for i in range(len(matrices))]))
    return {"architecture": architecture, "tensors": dict(sorted(found.items()))}


def main() -> None:
    out = {folder.name: tensors_of(folder) for folder in sorted((GOLDEN / "fixtures").iterdir()) if folder.name not in NOT_THERE}
    lines = [
        f'  "{name}": {{\n   "architecture": "{model["architecture"]}",\n   "tensors": {{\n'
        + ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in model["tensors"].items())
        + "\n   }\n  }"
        for name, model in out.items()
    ]
    (GOLDEN / "fixtures-gguf" / "models.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
