#!/usr/bin/env python3
"""Makes test/golden/fixtures: tiny random models of each architecture and what PyTorch + PEFT computes with them.

    .venv/bin/python scripts/parity/make_fixtures.py            # all cases, in place of what is there
    .venv/bin/python scripts/parity/make_fixtures.py qwen3      # one

Each case is a folder:
    config.json, model*.safetensors   the model, as save_pretrained writes it (some with the config keys of transformers 4)
    batch.json                        ids [B, S] right-padded, lengths, supervised rows (flat) and the ids to predict there
    adapter/                          a LoRA adapter with B != 0, written by PEFT
    expected.safetensors              base_logits, adapted_logits, merged_logits [B, S, V] (zero at the padding) and
                                      grad.<adapter key>: the gradient of the mean loss for every A and B
    expected.json                     loss, the recipe and losses of 20 AdamW steps, a greedy generation, versions

Weights are drawn so that logits are far from flat, norms far from ones and biases far from zero: a mistake shows.
Everything is float32 with eager attention on one thread. Runs in about ten seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
)

import experts
import fixtures as fx
import reference as ref

VOCAB = 96
LENGTHS = (16, 11, 7)
PROMPTS = (6, 4, 2)
RECIPE = ref.RECIPE | {"learning_rate": 1e-2}
NEW_TOKENS = 12

TINY = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Case:
    config: PreTrainedConfig
    lora: dict = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    shard: str = "1GB"
    # Keys that config.json gets besides; a None value removes the key.
    patch: dict = field(default_factory=dict)
    # Values with which a model that misreads the config would compute: they have to give other logits.
    misread: dict = field(default_factory=dict)


# Folders written before transformers 5 hold rope_theta and rope_scaling where today's hold rope_parameters.
def v4_keys(theta: float, scaling: dict | None) -> dict:
    return {
        "rope_parameters": None,
        "rope_theta": theta,
        "rope_scaling": scaling,
        "dtype": None,
        "torch_dtype": "float32",
        "head_dim": None,
    }


LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

CASES = {
    # Multi-head attention, output matrix of its own, several shards.
    "llama2": Case(LlamaConfig(**TINY, num_key_value_heads=4, tie_word_embeddings=False), shard="40KB"),
    # Wavelengths on all three sides of the llama3 rule; keys of transformers 5.
    "llama3": Case(
        LlamaConfig(
            **TINY | {"hidden_size": 64, "num_attention_heads": 4},
            num_key_value_heads=2,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            rope_parameters={"rope_theta": 10000.0, **LLAMA3_SCALING},
        ),
        lora={"target_modules": ["q_proj", "v_proj"]},
        dtype=torch.bfloat16,
        misread={"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    ),
    # The oldest spelling: rope_scaling.type.
    "llama-linear-rope": Case(
        LlamaConfig(
            **TINY,
            num_key_value_heads=2,
            tie_word_embeddings=False,
            rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
        ),
        lora={"use_rslora": True},
        patch=v4_keys(5000.0, {"type": "linear", "factor": 4.0}),
        misread={"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
    ),
    "smollm2": Case(
        LlamaConfig(
            **TINY | {"hidden_size": 24, "num_attention_heads": 3},
            num_key_value_heads=1,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        ),
        patch=v4_keys(100000.0, None),
        misread={"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    ),
    # A window shorter than the sequence; heads wider than hidden_size / num_attention_heads.
    "mistral": Case(
        MistralConfig(
            **TINY, num_key_value_heads=2, head_dim=16, sliding_window=6, rms_norm_eps=1e-5, tie_word_embeddings=False
        ),
        dtype=torch.float16,
        misread={"sliding_window": None},
    ),
    # Biases on q, k and v; a window in the config that use_sliding_window turns off.
    "qwen2": Case(
        Qwen2Config(**TINY, num_key_value_heads=2, tie_word_embeddings=True),
        patch={"use_sliding_window": False, "sliding_window": 4, "max_window_layers": 1, "layer_types": None},
        misread={"use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
    ),
    # Norms on q and k; heads wider than hidden_size / num_attention_heads.
    "qwen3": Case(
        Qwen3Config(
            **TINY | {"intermediate_size": 40}, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True
        )
    ),
    # A window on the second layer only.
    "qwen2-windows": Case(
        Qwen2Config(
            **TINY,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            use_sliding_window=True,
            sliding_window=4,
            max_window_layers=1,
        ),
        misread={"layer_types": ["full_attention", "full_attention"]},
    ),
    # Rotary embeddings on all layers but the second.
    "smollm3": Case(
        SmolLM3Config(
            **TINY, num_key_value_heads=2, no_rope_layer_interval=2, tie_word_embeddings=True, pad_token_id=0
        ),
        misread={"no_rope_layers": [1, 1]},
    ),
    # Factors on embeddings, scores, residual sums and logits.
    "granite": Case(
        GraniteConfig(
            **TINY,
            num_key_value_heads=2,
            embedding_multiplier=3.0,
            residual_multiplier=0.5,
            attention_multiplier=0.2,
            logits_scaling=0.25,
            tie_word_embeddings=False,
        ),
        misread={"logits_scaling": 1.0},
    ),
    # Norms behind attention and MLP, and over all of q and of k.
    "olmo2": Case(Olmo2Config(**TINY, num_key_value_heads=2, tie_word_embeddings=False, pad_token_id=0)),
    # One matrix for q, k, v, and one for gate and up; half of each head rotated, by factors for long texts.
    "phi3": Case(
        Phi3Config(
            **TINY,
            num_key_value_heads=2,
            tie_word_embeddings=False,
            pad_token_id=0,
            original_max_position_embeddings=8,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
                "short_factor": [1.0, 1.5],
                "long_factor": [1.0, 3.0],
            },
        ),
    ),
    # Embeddings times the root of the width, gains less one, GELU by tanh, heads wider than hidden_size / heads.
    "gemma": Case(GemmaConfig(**TINY, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)),
    # Norms before and behind, a window on every second layer, scores and logits bounded.
    "gemma2": Case(
        Gemma2Config(
            **TINY,
            num_key_value_heads=2,
            head_dim=16,
            sliding_window=6,
            query_pre_attn_scalar=8,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=4.0,
            tie_word_embeddings=True,
        ),
        misread={"final_logit_softcapping": None},
    ),
    # A window with a rotary embedding of its own on the first layer.
    "gemma3_text": Case(
        Gemma3TextConfig(
            **TINY,
            num_key_value_heads=2,
            head_dim=16,
            sliding_window=6,
            query_pre_attn_scalar=8,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
                "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0},
            },
            tie_word_embeddings=True,
        ),
        misread={"layer_types": ["full_attention", "full_attention"]},
    ),
    # Learned positions, one Conv1D for q, k, v, its matrix stored as [in, out].
    "gpt2": Case(
        GPT2Config(
            vocab_size=VOCAB,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            bos_token_id=1,
            eos_token_id=2,
            scale_attn_by_inverse_layer_idx=True,
            tie_word_embeddings=False,
        ),
        misread={"scale_attn_by_inverse_layer_idx": False},
    ),
    # Attention and MLP on one input, q, k and v head by head in one matrix, a half of each head rotated.
    "gpt_neox": Case(
        GPTNeoXConfig(
            **TINY, rope_parameters={"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.5}
        ),
        misread={"use_parallel_residual": False},
    ),
    # Experts in the place of the MLP, the shares of a token's two made to add up to 1; a window on every layer.
    "mixtral": Case(
        MixtralConfig(**TINY, num_key_value_heads=2, num_local_experts=4, sliding_window=6),
        dtype=torch.bfloat16,
        misread={"num_experts_per_tok": 1},
    ),
    # Three experts of six for each token.
    "qwen3_moe": Case(
        Qwen3MoeConfig(
            **TINY,
            num_key_value_heads=2,
            head_dim=16,
            num_experts=6,
            num_experts_per_tok=3,
            moe_intermediate_size=20,
            norm_topk_prob=True,
        ),
        misread={"norm_topk_prob": False},
    ),
    # Experts on every second layer but the last, their shares as they are; the number of experts under its other name.
    "qwen3_moe-steps": Case(
        Qwen3MoeConfig(
            **TINY | {"num_hidden_layers": 4, "intermediate_size": 24},
            num_key_value_heads=2,
            head_dim=8,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=24,
            decoder_sparse_step=2,
            mlp_only_layers=[3],
            attention_bias=True,
        ),
        patch={"num_experts": 4, "num_local_experts": None},
        misread={"norm_topk_prob": True},
    ),
}


@torch.no_grad()
def randomize(model: torch.nn.Module, generator: torch.Generator) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight") or ".ln_" in name and name.endswith("weight"):
            parameter.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("bias"):
            parameter.normal_(0, 0.3, generator=generator)
        elif name.endswith("embed_tokens.weight"):
            parameter.normal_(0, 0.3, generator=generator)
        else:
            parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)


def write_model(case: Case, folder: Path, generator: torch.Generator) -> None:
    model = AutoModelForCausalLM.from_config(case.config)
    randomize(model, generator)
    model.to(case.dtype).save_pretrained(folder, max_shard_size=case.shard)
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    config = json.loads(path.read_text()) | case.patch
    dropped = {key for key, value in case.patch.items() if value is None and key != "rope_scaling"}
    path.write_text(json.dumps({key: config[key] for key in config if key not in dropped}, indent=1) + "\n")


def random_ids(count: int, generator: torch.Generator) -> list[int]:
    return torch.randint(3, VOCAB, (count,), generator=generator).tolist()


def attach_adapter(name: str, case: Case, folder: Path, generator: torch.Generator) -> PeftModel:
    options = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    model = get_peft_model(experts.as_modules(ref.load(folder)), LoraConfig(**options | case.lora))
    with torch.no_grad():
        for key, parameter in ref.adapter_parameters(model).items():
            scale = 0.1 if ".lora_B." in key else parameter.shape[1] ** -0.5
            parameter.normal_(0, scale, generator=generator)
    fx.save_adapter(model, name, folder / "adapter")
    return model.eval()


def generation(model: torch.nn.Module, generator: torch.Generator) -> dict:
    """A greedy generation whose every choice is clear enough to survive another order of summation."""
    for _ in range(300):
        prompt = random_ids(5, generator)
        tokens, lead = ref.greedy(model, prompt, NEW_TOKENS)
        if lead > 0.03 and len(set(tokens)) >= NEW_TOKENS // 3:
            return {"prompt": prompt, "tokens": tokens, "smallest_lead": lead}
    raise RuntimeError("no prompt gives a clear greedy generation")


def check_sharpness(
    name: str, case: Case, folder: Path, expected: dict[str, torch.Tensor], batch: ref.Batch
) -> None:
    """The fixture is worth something only if it can tell right from wrong."""
    if case.misread:
        config = AutoConfig.from_pretrained(folder)
        for key, value in case.misread.items():
            setattr(config, key, value)
        wrong = ref.logits_of(ref.load(folder, config=config), batch)
        assert ref.relative_error(wrong, expected["base_logits"]) > 1e-2, f"{name}: a misread config would go unseen"
    rows = expected["base_logits"].flatten(0, 1)[batch.mask.flatten().bool()]
    assert rows.std(-1).min() > 0.3, f"{name}: flat logits"
    assert ref.relative_error(expected["adapted_logits"], expected["base_logits"]) > 0.05, f"{name}: idle adapter"
    assert ref.relative_error(expected["merged_logits"], expected["adapted_logits"]) < 1e-5, f"{name}: merge differs"
    if experts.are_in_all_layers(case.config):
        read = experts.read_by_peft(ref.load(folder), folder / "adapter")
        error = ref.relative_error(ref.logits_of(read, batch), expected["adapted_logits"])
        assert error < 1e-5, f"{name}: PEFT reads the adapter otherwise, by {error}"
    assert all(gradient.norm() > 1e-4 for key, gradient in expected.items() if key.startswith("grad.")), name


def make(name: str, folder: Path, seed: int) -> None:
    case = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    write_model(case, folder, generator)
    batch = ref.Batch.of([random_ids(length, generator) for length in LENGTHS], list(PROMPTS))
    batch.write(folder / "batch.json")

    model = attach_adapter(name, case, folder, generator)
    with model.disable_adapter():
        expected = {"base_logits": ref.logits_of(model, batch)}
    expected["adapted_logits"] = ref.logits_of(model, batch)
    loss, gradients = ref.gradients_of(model, batch)
    expected |= fx.named_gradients(gradients)
    greedy = generation(model, generator)
    log = ref.train(model, batch, RECIPE)
    # Training changed the adapter in place: merge the one that was saved.
    saved = PeftModel.from_pretrained(experts.as_modules(ref.load(folder)), folder / "adapter")
    expected["merged_logits"] = ref.logits_of(saved.merge_and_unload(), batch)
    check_sharpness(name, case, folder, expected, batch)

    fx.write_expected(folder, expected, {"loss": loss, "recipe": RECIPE, **log, "greedy": greedy})


if __name__ == "__main__":
    fx.main("fixtures", CASES, make)
