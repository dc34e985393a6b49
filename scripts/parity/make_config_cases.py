#!/usr/bin/env python3
"""Makes test/golden/fixtures-configs: what transformers makes of a config.json, and of a checkpoint that does not quite fit it.

    .venv/bin/python scripts/parity/make_config_cases.py

    defaults.json   for each model_type the values that its configuration class has for keys that config.json leaves out
    cases.json      tiny models ("case NAME"): a config.json, the number of the list of the checkpoint's tensors
                    ("tensors N"), and the loss that transformers computes, or null where it fails, or starts a weight anew
                    because the checkpoint has none

No weights are kept: `values` below makes them from a number, and test/golden/configs.test.ts does the same, bit for bit.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import experts
import fixtures as fx
import reference as ref

TARGET = fx.GOLDEN / "fixtures-configs"
MODEL_TYPES = (
    "llama", "mistral", "qwen2", "qwen3", "smollm3", "granite", "olmo2", "phi3", "gemma", "gemma2", "gemma3_text",
    "mixtral", "qwen3_moe"
)
KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "max_position_embeddings",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "original_max_position_embeddings",
    "hidden_activation",
    "no_rope_layer_interval",
    "embedding_multiplier",
    "residual_multiplier",
    "attention_multiplier",
    "logits_scaling",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "num_local_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "norm_topk_prob",
    "decoder_sparse_step",
)
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
IDS = [3, 17, 5, 5, 20, 11, 30, 2, 9, 14, 26, 7, 3, 17, 8, 1, 29, 4, 12, 21, 6, 19, 25, 10]

TINY = {
    "vocab_size": 32,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}

"""Classes whose own padding token is beyond the tiny vocabulary."""
PADDED = ("smollm3", "olmo2", "phi3")

Tensors = dict[str, dict]


@dataclass(frozen=True)
class Case:
    type: str
    """Keys of config.json beside TINY's; None in `drop` removes one of these."""
    keys: dict = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    """What is done to the list of the checkpoint's tensors."""
    change: Callable[[Tensors], Tensors] = lambda tensors: tensors
    """Keys with which the tensors are made, where these are not those of the config."""
    made_with: dict | None = None


def values(seed: int, shape: list[int], name: str) -> np.ndarray:
    """Whole numbers from a small generator, scaled: the same in every language."""
    count = int(np.prod(shape))
    index = np.arange(count, dtype=np.int64)
    whole = (index * 7919 + index % 89 * 613 + seed * 1009) % 2003 - 1001
    if name.endswith("norm.weight"):
        scaled = 1 + whole / 2002
    else:
        scaled = whole / 1001 * (1 if name.endswith("bias") else 3 * shape[-1] ** -0.5)
    return scaled.reshape(shape)


def tensors_of(config: dict) -> Tensors:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    experts.as_modules(model)
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    names = dict.fromkeys(shapes)
    return {name: {"shape": shapes[name], "dtype": "F32", "seed": seed} for seed, name in enumerate(names)}


def strip_prefix(tensors: Tensors) -> Tensors:
    return {name.removeprefix("model."): info for name, info in tensors.items()}


def with_head(seed: int) -> Callable[[Tensors], Tensors]:
    """The head's matrix beside the embedding's; with the seed 0 they are equal."""
    return lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] | {"seed": seed}}


def only_head(tensors: Tensors) -> Tensors:
    return {
        "lm_head.weight" if name == "model.embed_tokens.weight" else name: info for name, info in tensors.items()
    }


def stored_as(dtype: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: info | {"dtype": dtype} for name, info in tensors.items()}


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {other: info for other, info in tensors.items() if other != name}


def more(name: str, shape: list[int]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: {"shape": shape, "dtype": "F32", "seed": 77}}


MOE = {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.3, 2.0], "long_factor": [1.0, 2.0, 4.0, 8.0]}
TIED = {"tie_word_embeddings": True}
MIXED = ["full_attention", "sliding_attention"]
SLIDING = ["sliding_attention", "sliding_attention"]
FULL = ["full_attention", "full_attention"]

CASES = {
    "rope: both spellings": Case(
        "llama",
        {"rope_parameters": LINEAR | {"rope_theta": 5000.0}, "rope_scaling": LINEAR | {"factor": 2.0}, "rope_theta": 2000.0},
    ),
    "rope: an empty rope_scaling": Case("llama", {"rope_parameters": LINEAR | {"rope_theta": 5000.0}, "rope_scaling": {}}),
    "rope: theta in the spelling that loses": Case(
        "llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}, "rope_scaling": LINEAR}
    ),
    "rope: theta within and beside": Case("llama", {"rope_scaling": LINEAR | {"rope_theta": 50.0}, "rope_theta": 5000.0}),
    "rope: theta null": Case("llama", {"rope_theta": None}),
    "rope: no theta": Case("llama", {}),
    "rope: type and rope_type": Case("llama", {"rope_scaling": LINEAR | {"type": "default"}}),
    "rope: null": Case("llama", {"rope_scaling": None, "rope_parameters": None, "rope_theta": 500.0}),
    "rope: llama3 with a context within and beside": Case(
        "llama",
        {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 64}, "original_max_position_embeddings": 16},
    ),
    "rope: llama3 without a context": Case("llama", {"rope_scaling": LLAMA3, "max_position_embeddings": 32}),
    "rope: partial": Case("llama", {"rope_scaling": LINEAR | {"partial_rotary_factor": 0.5}}),
    "rope: partial beside": Case("llama", {"partial_rotary_factor": 0.5}),
    "rope: partial beside, linear": Case("llama", {"partial_rotary_factor": 0.5, "rope_scaling": LINEAR}),
    "rope: partial of 1": Case("llama", {"partial_rotary_factor": 1.0, "rope_theta": 500.0}),
    "rope: by layer type": Case(
        "qwen3",
        {"head_dim": 8, "layer_types": FULL, "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 50.0}}},
        made_with={"head_dim": 8},
    ),
    "window: mistral, layer_types mixed": Case("mistral", {"head_dim": 8, "sliding_window": 4, "layer_types": MIXED}),
    "window: mistral, layer_types sliding": Case("mistral", {"head_dim": 8, "sliding_window": 4, "layer_types": SLIDING}),
    "window: mistral, layer_types full": Case("mistral", {"head_dim": 8, "sliding_window": 4, "layer_types": FULL}),
    "window: mistral, layer_types full, none": Case(
        "mistral", {"head_dim": 8, "sliding_window": None, "layer_types": FULL}
    ),
    "window: mistral, none": Case("mistral", {"sliding_window": None}),
    "window: mistral, layer_types mixed, none": Case(
        "mistral", {"head_dim": 8, "sliding_window": None, "layer_types": MIXED}
    ),
    "window: mistral": Case("mistral", {"sliding_window": 4}),
    "window: mistral, use_sliding_window false": Case("mistral", {"sliding_window": 4, "use_sliding_window": False}),
    "window: llama with the keys": Case("llama", {"sliding_window": 4, "use_sliding_window": True}),
    "window: llama, layer_types mixed": Case("llama", {"sliding_window": 4, "layer_types": MIXED}),
    "window: llama, layer_types sliding": Case("llama", {"sliding_window": 4, "layer_types": SLIDING}),
    "window: qwen2, every layer": Case("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}),
    "window: qwen2, no layer": Case("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}),
    "window: qwen2, one layer": Case("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "window: qwen2, by default no layer": Case("qwen2", {"use_sliding_window": True, "sliding_window": 4}),
    "window: qwen2, layer_types sliding": Case(
        "qwen2", {"use_sliding_window": True, "sliding_window": 4, "layer_types": SLIDING, "max_window_layers": 2}
    ),
    "window: qwen2, layer_types full": Case(
        "qwen2", {"use_sliding_window": True, "sliding_window": 4, "layer_types": FULL, "max_window_layers": 0}
    ),
    "window: qwen2, layer_types sliding, turned off": Case("qwen2", {"sliding_window": 4, "layer_types": SLIDING}),
    "window: qwen2, too few layer_types": Case("qwen2", {"layer_types": ["full_attention"]}),
    "window: qwen3, every layer": Case(
        "qwen3", {"head_dim": 8, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}
    ),
    "window: qwen3, null": Case(
        "qwen3", {"head_dim": 8, "use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}
    ),
    "heads: qwen3 without head_dim": Case("qwen3", {"num_hidden_layers": 1}),
    "heads: qwen3, head_dim null": Case("qwen3", {"head_dim": None}, made_with={"head_dim": 8}),
    "heads: qwen2 with head_dim": Case("qwen2", {"head_dim": 16}),
    "heads: llama, head_dim null": Case("llama", {"head_dim": None}),
    "heads: llama without num_key_value_heads": Case("llama", {}, drop=("num_key_value_heads",)),
    "heads: mistral without num_key_value_heads": Case(
        "mistral", {"num_attention_heads": 8}, drop=("num_key_value_heads",)
    ),
    "heads: mistral, num_key_value_heads null": Case(
        "mistral", {"num_key_value_heads": None}, made_with={"num_key_value_heads": 4}
    ),
    "heads: qwen2 without num_key_value_heads": Case(
        "qwen2", {"num_attention_heads": 4}, drop=("num_key_value_heads",), made_with={"num_key_value_heads": 4}
    ),
    "heads: qwen2, num_key_value_heads null": Case("qwen2", {"num_key_value_heads": None}),
    "rope: yarn": Case("llama", {"rope_scaling": YARN}),
    "rope: yarn without a factor": Case(
        "llama", {"rope_scaling": YARN | {"factor": None, "original_max_position_embeddings": 8}}
    ),
    "rope: yarn, all its keys": Case(
        "qwen2",
        {"rope_scaling": YARN | {"beta_fast": 4, "beta_slow": 0.5, "mscale": 0.7, "mscale_all_dim": 0.4, "truncate": False}},
    ),
    "rope: yarn, a factor of attention": Case("llama", {"rope_scaling": YARN | {"attention_factor": 1.5}}),
    "rope: dynamic, short": Case("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 3.0}}),
    "rope: dynamic, long": Case(
        "llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 3.0}, "max_position_embeddings": 10}
    ),
    "rope: longrope, short": Case("llama", {"rope_scaling": LONGROPE | {"original_max_position_embeddings": 64}}),
    "rope: longrope, long": Case("llama", {"rope_scaling": LONGROPE | {"original_max_position_embeddings": 16}}),
    "rope: longrope with a factor": Case(
        "llama", {"rope_scaling": LONGROPE | {"original_max_position_embeddings": 16, "factor": 2.0}}
    ),
    "smollm3": Case("smollm3", {"num_hidden_layers": 4, "sliding_window": 4}),
    "smollm3: windows": Case(
        "smollm3", {"num_hidden_layers": 4, "use_sliding_window": True, "sliding_window": 4, "no_rope_layer_interval": 2}
    ),
    "smollm3: a list of layers": Case("smollm3", {"no_rope_layers": [0, 1]}),
    "smollm3: too short a list": Case("smollm3", {"no_rope_layers": [0]}, made_with={}),
    "granite": Case(
        "granite",
        {"embedding_multiplier": 3.0, "residual_multiplier": 0.4, "attention_multiplier": 0.2, "logits_scaling": 1.7},
    ),
    "granite: no factors": Case("granite", {"attention_bias": True, "mlp_bias": True}),
    "olmo2": Case("olmo2", {}),
    "olmo2: attention_bias": Case("olmo2", {"attention_bias": True}),
    "phi3": Case("phi3", {}),
    "mixtral": Case("mixtral", {"num_local_experts": 4}),
    "mixtral: three experts of five": Case("mixtral", {"num_local_experts": 5, "num_experts_per_tok": 3}),
    "mixtral: window, layer_types full": Case(
        "mixtral", {"num_local_experts": 4, "sliding_window": 4, "layer_types": FULL}
    ),
    "mixtral: more experts chosen than there are": Case(
        "mixtral", {"num_local_experts": 2, "num_experts_per_tok": 3}
    ),
    "qwen3_moe": Case("qwen3_moe", MOE),
    "qwen3_moe: the other name": Case("qwen3_moe", {"num_experts": 4} | {key: MOE[key] for key in MOE if key != "num_local_experts"}),
    "qwen3_moe: shares that add up": Case("qwen3_moe", MOE | {"norm_topk_prob": True}),
    "qwen3_moe: every second layer": Case("qwen3_moe", MOE | {"decoder_sparse_step": 2}),
    "qwen3_moe: a layer without": Case("qwen3_moe", MOE | {"mlp_only_layers": [0]}),
    "qwen3_moe: windows": Case("qwen3_moe", MOE | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3_moe: windows turned off": Case("qwen3_moe", MOE | {"sliding_window": 4}),
    "phi3: window": Case("phi3", {"sliding_window": 4}),
    "phi3: longrope on a part of each head": Case(
        "phi3",
        {
            "partial_rotary_factor": 0.5,
            "original_max_position_embeddings": 16,
            "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1], "long_factor": [2.0, 5.0]},
        },
    ),
    "phi3: su": Case(
        "phi3", {"rope_scaling": {"type": "su", "original_max_position_embeddings": 16, "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 3.0, 4.0, 5.0]}}
    ),
    "gemma": Case("gemma", {"head_dim": 16}),
    "gemma: gelu of old": Case("gemma", {"head_dim": 8, "hidden_act": "gelu"} | TIED),
    "gemma2": Case("gemma2", {"head_dim": 16, "sliding_window": 4, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0}),
    "gemma2: no bounds": Case(
        "gemma2",
        {"head_dim": 8, "attn_logit_softcapping": None, "final_logit_softcapping": None, "layer_types": FULL} | TIED,
    ),
    "gemma2: bounded logits": Case("gemma2", {"head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 1.0}),
    "gemma3_text": Case(
        "gemma3_text", {"num_hidden_layers": 7, "head_dim": 16, "sliding_window": 4, "query_pre_attn_scalar": 8} | TIED
    ),
    "gemma3_text: keys of old": Case(
        "gemma3_text",
        {
            "head_dim": 8,
            "sliding_window": 4,
            "sliding_window_pattern": 2,
            "rope_theta": 500.0,
            "rope_local_base_freq": 50.0,
            "rope_scaling": LINEAR,
        },
    ),
    "gemma3_text: rope_parameters by layer type": Case(
        "gemma3_text",
        {
            "head_dim": 8,
            "sliding_window": 4,
            "layer_types": MIXED,
            "rope_parameters": {
                "full_attention": LINEAR | {"rope_theta": 500.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        },
    ),
    "gemma3_text: bidirectional": Case("gemma3_text", {"head_dim": 8, "use_bidirectional_attention": True}),
    "act: swish": Case("llama", {"hidden_act": "swish"}),
    "act: gelu": Case("llama", {"hidden_act": "gelu"}),
    "eps: 0": Case("llama", {"rms_norm_eps": 0.0}),
    "eps: a whole number": Case("llama", {"rms_norm_eps": 1}, made_with={}),
    "eps: large": Case("llama", {"rms_norm_eps": 0.5}),
    "bias: llama, attention and mlp": Case("llama", {"attention_bias": True, "mlp_bias": True}),
    "bias: qwen2 whatever attention_bias says": Case("qwen2", {"attention_bias": False}),
    "bias: qwen3": Case("qwen3", {"head_dim": 8, "attention_bias": True}),
    "bias: in the file and not in the config": Case("llama", {}, made_with={"attention_bias": True}),
    "bias: mistral with the key": Case(
        "mistral", {"attention_bias": True}, change=more("model.layers.0.self_attn.q_proj.bias", [32])
    ),
    "tie: absent": Case("llama", TIED, drop=("tie_word_embeddings",), made_with={"tie_word_embeddings": True}),
    "tie: an unequal head": Case("llama", TIED, change=with_head(5)),
    "tie: an equal head": Case("llama", TIED, change=with_head(0)),
    "tie: only the head": Case("qwen2", TIED, change=only_head),
    "tie: neither": Case("llama", TIED, change=without("model.embed_tokens.weight")),
    "names: no prefix": Case("llama", {}, change=strip_prefix),
    "names: no prefix, tied": Case("qwen3", TIED | {"head_dim": 8}, change=strip_prefix),
    "names: no prefix, no head": Case("llama", {}, change=lambda t: without("lm_head.weight")(strip_prefix(t))),
    "names: a layer too many": Case("llama", {"num_hidden_layers": 1}, made_with={"num_hidden_layers": 2}),
    "names: a tensor of nothing": Case("llama", {}, change=more("model.extra.weight", [3])),
    "names: a missing norm": Case("llama", {}, change=without("model.layers.1.input_layernorm.weight")),
    "names: a missing head": Case("llama", {}, change=without("lm_head.weight")),
    "dtype: float64": Case("llama", {}, change=stored_as("F64")),
    "dtype: float64, tied": Case("llama", TIED, change=stored_as("F64")),
    "shape: another than the config's": Case("llama", {"intermediate_size": 20}, made_with={"intermediate_size": 24}),
}


def loss_of(config: dict, tensors: Tensors) -> float | None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "config.json").write_text(json.dumps(config))
        save_file(
            {
                name: torch.from_numpy(values(info["seed"], info["shape"], name)).to(DTYPES[info["dtype"]])
                for name, info in tensors.items()
            },
            folder / "model.safetensors",
        )
        try:
            model, told = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
            )
            if told["missing_keys"] or told["mismatched_keys"]:
                return None
            with torch.no_grad():
                logits = model.eval()(input_ids=torch.tensor([IDS])).logits[0]
            return F.cross_entropy(logits[:-1], torch.tensor(IDS[1:])).item()
        except Exception as error:  # whatever it is, transformers does not run this model
            print(f"    {type(error).__name__}: {str(error).splitlines()[0][:120]}")
            return None


def defaults_of(model_type: str) -> dict:
    kept = CONFIG_MAPPING[model_type]
    # By the names that it saves.
    fields = {kept.attribute_map.get(name, name): f.default for name, f in kept.__dataclass_fields__.items()}
    theta = kept.default_theta
    known = {key: fields[key] for key in KEYS if key in fields}
    return known | {"rope_theta": theta["global"] if isinstance(theta, dict) else theta}


def main() -> None:
    ref.be_deterministic()
    TARGET.mkdir(parents=True, exist_ok=True)
    ref.write_json(TARGET / "defaults.json", {name: defaults_of(name) for name in MODEL_TYPES})
    cases, checkpoints = {}, []
    for name, case in CASES.items():
        small = TINY | ({"pad_token_id": 0} if case.type in PADDED else {})
        config = {"model_type": case.type} | small | case.keys
        config = {key: value for key, value in config.items() if key not in case.drop}
        made = {"model_type": case.type} | small | (case.keys if case.made_with is None else case.made_with)
        if case.drop and case.made_with is None:
            made = {key: value for key, value in made.items() if key not in case.drop}
        for key in ("layer_types", "rope_parameters", "rope_scaling", "rope_theta"):
            made.pop(key, None)
        tensors = case.change(tensors_of(made))
        loss = loss_of(config, tensors)
        if tensors not in checkpoints:
            checkpoints.append(tensors)
        cases[name] = {"config": config, "tensors": checkpoints.index(tensors), "loss": loss}
        print(f"{name}: {loss}")
    facts = {"versions": ref.versions(), "ids": IDS}
    for i, tensors in enumerate(checkpoints):
        facts[f"tensors {i}"] = tensors
    ref.write_json(TARGET / "cases.json", facts | {f"case {name}": case for name, case in cases.items()})


if __name__ == "__main__":
    main()
