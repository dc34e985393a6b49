#!/usr/bin/env python3
"""Makes test/golden/fixtures-options: what PEFT computes with LoRA's options on the tiny models of test/golden/fixtures.

    .venv/bin/python scripts/parity/make_option_fixtures.py                  # all cases, in place of what is there
    .venv/bin/python scripts/parity/make_option_fixtures.py qwen2-bias-all   # one

Each case is a folder <model>-<option>:
    adapter/               the adapter in the middle of its training, written by PEFT
    expected.safetensors   adapted_logits [B, S, V] (zero at the padding) and grad.<name in the adapter's file>: the gradient
                           of the mean loss for everything that trains
    expected.json          method, base, loss, the recipe and losses of 20 AdamW steps, versions
What merging has to give is adapted_logits: PEFT itself merges an embedding into a tied head, and then computes otherwise.
The model and the batch are those of fixtures/<model>. Runs in a few seconds.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, VeraConfig, get_peft_model
from safetensors.torch import load_file

import fixtures as fx
import reference as ref

RECIPE = ref.RECIPE | {"learning_rate": 1e-2}
COMMON = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"}
# Without what AdaLoRA does while it trains, which make_adalora_fixtures.py is about.
UNPRUNED = {"init_r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", "orth_reg_weight": 0, "tinit": 900, "total_step": 1000}
# Options of save_pretrained, not of a configuration.
SAVING = ["save_embedding_layers"]
# What adapter_config.json says otherwise than the adapter was made with; PEFT loads it so.
EDITED = "edited"
# What is done to the base before the adapter is put on it; PEFT saves the embedding and the head along then.
RESIZED = "resized"
MOVED = "moved_embedding"
QV = {"target_modules": ["q_proj", "v_proj"]}

# Base and options. qwen2: tied, biases on q, k and v. smollm2: tied, no biases. llama2: a head of its own, no biases.
CASES: dict[str, tuple[str, dict]] = {
    "qwen2-bias-all": ("qwen2", QV | {"bias": "all"}),
    "qwen2-bias-lora-only": ("qwen2", QV | {"bias": "lora_only"}),
    "qwen2-lora-bias": ("qwen2", QV | {"lora_bias": True, "bias": "lora_only"}),
    "smollm2-lora-bias": ("smollm2", {"target_modules": ["o_proj"], "lora_bias": True}),
    "qwen2-layers": (
        "qwen2",
        {
            "target_modules": ["q_proj", "k_proj", "down_proj"],
            "exclude_modules": ["layers.1.mlp.down_proj"],
            "layers_to_transform": [1],
            "layers_pattern": ["layers"],
        },
    ),
    "qwen2-exclude": ("qwen2", {"target_modules": r".*_proj", "exclude_modules": r".*\.(mlp\..*|0\.self_attn\.q_proj)"}),
    "llama2-modules-to-save": ("llama2", QV | {"modules_to_save": ["lm_head", "embed_tokens", "model.norm"]}),
    "qwen2-modules-to-save": ("qwen2", QV | {"modules_to_save": ["k_proj", "post_attention_layernorm"]}),
    "smollm2-save-head": ("smollm2", QV | {"modules_to_save": ["lm_head"]}),
    "smollm2-save-embedding": ("smollm2", QV | {"modules_to_save": ["embed_tokens"]}),
    "llama2-embedding-and-head": ("llama2", {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}),
    "smollm2-embedding": ("smollm2", {"target_modules": ["embed_tokens", "q_proj"]}),
    "smollm2-head": ("smollm2", {"target_modules": ["lm_head", "q_proj"], "use_rslora": True}),
    "smollm2-dora-embedding": ("smollm2", {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True}),
    "llama2-tokens": ("llama2", QV | {"trainable_token_indices": [80, 5, 21]}),
    "smollm2-tokens": ("smollm2", QV | {"trainable_token_indices": [88, 3, 40]}),
    "llama2-tokens-of-head": ("llama2", QV | {"trainable_token_indices": {"embed_tokens": [5, 9], "lm_head": [30, 9, 88]}}),
    "smollm2-tokens-of-head": ("smollm2", QV | {"trainable_token_indices": {"lm_head": [3, 40]}}),
    "smollm2-tokens-of-both": ("smollm2", QV | {"trainable_token_indices": {"embed_tokens": [3, 40], "lm_head": [5, 40]}}),
    "smollm2-tokens-shared": ("smollm2", QV | {"trainable_token_indices": {"embed_tokens": [3, 40], "lm_head": [3, 40]}}),
    "smollm2-r-above": ("smollm2", {"target_modules": ["k_proj"], "r": 10}),
    "smollm2-r-above-orthogonal": ("smollm2", {"target_modules": ["k_proj"], "r": 10, "init_lora_weights": "orthogonal"}),
    "qwen2-orthogonal": ("qwen2", QV | {"init_lora_weights": "orthogonal"}),
    "qwen2-mica": ("qwen2", {"target_modules": ["q_proj", "embed_tokens"], "init_lora_weights": "mica"}),
    "qwen2-vera": (
        "qwen2",
        {"vera": True, "target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1]}
        | {"bias": "vera_only", "modules_to_save": ["norm"]},
    ),
    "qwen2-patterns": (
        "qwen2",
        {"target_modules": ["q_proj", "k_proj", "down_proj"], "use_rslora": True}
        | {"rank_pattern": {"layers.1.self_attn.q_proj": 2, "k_proj": 6}, "alpha_pattern": {"down_proj": 3}},
    ),
    "llama2-vera-head": ("llama2", {"vera": True, "target_modules": ["v_proj", "o_proj", "down_proj", "lm_head"]}),
    "smollm2-vera-head": ("smollm2", {"vera": True, "target_modules": ["v_proj", "o_proj", "down_proj", "lm_head"]}),
    "llama2-adalora-head": ("llama2", {"adalora": True, "target_modules": ["q_proj", "lm_head"]}),
    "qwen2-adalora": (
        "qwen2",
        {"adalora": True, "target_modules": ["q_proj", "v_proj"], "exclude_modules": ["layers.0.self_attn.v_proj"]}
        | {"bias": "all", "modules_to_save": ["norm"], "trainable_token_indices": [5, 9], "use_rslora": True},
    ),
    "qwen2-adalora-bias": ("qwen2", QV | {"adalora": True, "bias": "lora_only", "layers_to_transform": [1]}),
    "llama2-saved-embeddings": ("llama2", QV | {"save_embedding_layers": True}),
    "smollm2-saved-embeddings": ("smollm2", QV | {"save_embedding_layers": True}),
    "llama2-saved-embeddings-and-head": ("llama2", QV | {"save_embedding_layers": True, "modules_to_save": ["lm_head"]}),
    "qwen2-beyond-targets": ("qwen2", QV | {"edited": {"target_modules": ["q_proj"], "layers_to_transform": [1]}}),
    "smollm2-tied-copy": ("smollm2", QV | {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}),
    "smollm2-tied-copy-of-head": ("smollm2", QV | {"modules_to_save": ["lm_head"], "ensure_weight_tying": True}),
    "smollm2-tied-tokens": ("smollm2", QV | {"trainable_token_indices": [3, 40], "ensure_weight_tying": True}),
    "smollm2-tied-targets": ("smollm2", {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}),
    "smollm2-tied-target-head": ("smollm2", {"target_modules": ["q_proj", "lm_head"], "ensure_weight_tying": True}),
    "smollm2-tied-dora": ("smollm2", {"target_modules": ["embed_tokens"], "use_dora": True, "ensure_weight_tying": True}),
    "qwen2-default-targets": ("qwen2", {"target_modules": ["q_proj", "k_proj", "v_proj"], "edited": {"target_modules": None}}),
    "smollm2-resized": ("smollm2", QV | {"resized": 100}),
    "llama2-resized": ("llama2", QV | {"resized": 100}),
    "llama2-resized-copies": ("llama2", QV | {"resized": 100, "modules_to_save": ["embed_tokens", "lm_head"]}),
    "smollm2-resized-copy": ("smollm2", QV | {"resized": 100, "modules_to_save": ["embed_tokens"]}),
    "llama2-resized-targets": ("llama2", {"resized": 100, "target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "smollm2-resized-head": ("smollm2", {"resized": 100, "target_modules": ["q_proj", "lm_head"]}),
    "llama2-resized-tokens": ("llama2", QV | {"resized": 100, "trainable_token_indices": [5, 97]}),
    "smollm2-moved-embedding": ("smollm2", QV | {"moved_embedding": True, "save_embedding_layers": True}),
}


@torch.no_grad()
def base_of(model: str, options: dict, seed: int) -> torch.nn.Module:
    """The model of fixtures/, with the vocabulary or the embedding that the case asks for."""
    base = fx.load_base(model)
    torch.manual_seed(seed)
    if RESIZED in options:
        base.resize_token_embeddings(options[RESIZED], mean_resizing=False)
    if MOVED in options:
        matrix = base.get_input_embeddings().weight
        matrix.add_(0.3 * matrix.std() * torch.randn_like(matrix))
    return base


def config_of(options: dict) -> PeftConfig:
    if "vera" in options:
        return VeraConfig(r=12, task_type="CAUSAL_LM", **{key: options[key] for key in options if key != "vera"})
    if "adalora" in options:
        return AdaLoraConfig(**UNPRUNED, **{key: options[key] for key in options if key != "adalora"})
    return LoraConfig(**COMMON | {key: options[key] for key in options if key not in (*SAVING, EDITED, RESIZED, MOVED)})


@torch.no_grad()
def move(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Puts every tensor of the adapter, frozen ones too, somewhere in the middle of its training."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and ".lora_" not in name:
            continue
        noise = torch.empty_like(parameter).normal_(0, 1, generator=generator)
        if "lora_A" in name or "lora_embedding_A" in name:
            parameter.copy_(noise * 0.3)
        elif "lora_B.default.weight" in name or "lora_embedding_B" in name:
            parameter.copy_(noise * 0.1)
        elif "lora_E" in name:
            parameter.copy_(noise * 2)
        elif "magnitude" in name:
            parameter.mul_(1 + 0.2 * noise)
        else:
            parameter.add_(0.1 * noise)


def make(name: str, folder: Path, seed: int) -> None:
    model, options = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    batch = fx.batch_of(model)
    adapted = get_peft_model(base_of(model, options, seed), config_of(options))
    move(adapted, generator)
    adapted.eval()
    saving = {key: options[key] for key in SAVING if key in options}
    fx.save_adapter(adapted, model, folder / "adapter", **saving)
    if EDITED in options:
        path = folder / "adapter" / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | options[EDITED], indent=1) + "\n")
        adapted = fx.load_adapter(model, folder / "adapter", is_trainable=True)

    base = ref.logits_of(base_of(model, options, seed), batch)
    expected = {"adapted_logits": ref.logits_of(adapted, batch)}
    loss, gradients = ref.gradients_of(adapted, batch)
    # The fixture is worth something only if it can tell right from wrong.
    assert ref.relative_error(expected["adapted_logits"], base) > 0.03, "idle adapter"
    assert all(gradient.norm() > 1e-5 for gradient in gradients.values())
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert gradients.keys() <= saved.keys(), gradients.keys() - saved.keys()
    expected |= fx.named_gradients(gradients)
    log = ref.train(adapted, batch, RECIPE)
    assert log["losses"][-1] < 0.97 * log["losses"][0], "training does nothing"
    method = "dora" if "use_dora" in options else next((name for name in ("vera", "adalora") if name in options), "lora")
    fx.write_expected(folder, expected, {"method": method, "base": model, "loss": loss, "recipe": RECIPE, **log})


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="peft")
    fx.main("fixtures-options", CASES, make)
