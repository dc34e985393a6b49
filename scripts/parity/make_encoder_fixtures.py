#!/usr/bin/env python3
"""Makes test/golden/fixtures-encoders: tiny random encoders and what transformers + PEFT compute with them.

    .venv/bin/python scripts/parity/make_encoder_fixtures.py            # all cases, in place of what is there
    .venv/bin/python scripts/parity/make_encoder_fixtures.py roberta    # one
    .venv/bin/python scripts/parity/make_encoder_fixtures.py --check FOLDER MODEL    # what lowrank wrote, loaded by PEFT

Each case is a folder:
    config.json, model.safetensors    the model, as save_pretrained of AutoModel writes it
    batch.json                        ids [B, S] right-padded, lengths, type_ids [B, S]
    adapter/                          a LoRA on all linear layers with B != 0, written by PEFT (FEATURE_EXTRACTION)
    expected.safetensors              base_hidden, adapted_hidden, merged_hidden [B, S, H] (zero at the padding), pooled [B, H]
                                      with the adapter where there is a pooler; cotangent and pooled_cotangent of the same
                                      shapes, and grad.<adapter key>: the gradient of their products with these
                                      for every A and B; prefix [V, L*2*H] and prefix_hidden with PREFIX_TUNING by it
    expected.json                     task_names: the names of the adapter's tensors in the file of a classifier; head_names:
                                      what the class for masked tokens has beside the encoder; whether PEFT takes a prefix;
                                      versions
    ../distances.json                 DeBERTa's indices of distances, by "span furthest"
    ../defaults.json                  what each configuration class has for keys that config.json leaves out

Weights are drawn so that a mistake shows. Everything is float32 with eager attention on one thread.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
)
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

import fixtures as fx
import reference as ref

ROOT = "fixtures-encoders"
VOCAB = 96
LENGTHS = (17, 11, 5)
SECOND = (9, 6, 5)
VIRTUAL = 3

TINY = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


MODERN = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}


@dataclass(frozen=True)
class Case:
    config: PreTrainedConfig
    # Keys that config.json gets besides; a None value removes the key.
    patch: dict = field(default_factory=dict)
    # Values with which a model that misreads the config would compute: they have to give other states.
    misread: dict = field(default_factory=dict)


CASES = {
    "bert": Case(BertConfig(**TINY), misread={"layer_norm_eps": 0.3}),
    # Positions from behind the padding token; one type.
    "roberta": Case(RobertaConfig(**TINY, type_vocab_size=1, layer_norm_eps=1e-5, hidden_act="gelu_new")),
    "xlm-roberta": Case(XLMRobertaConfig(**TINY, pad_token_id=3)),
    "distilbert": Case(
        DistilBertConfig(vocab_size=VOCAB, dim=32, hidden_dim=48, n_layers=2, n_heads=4, max_position_embeddings=64)
    ),
    # v2: a convolution beside the first layer, projections of distances by those of queries and keys.
    "deberta-v2": Case(
        DebertaV2Config(
            **TINY,
            relative_attention=True,
            position_buckets=4,
            position_biased_input=False,
            share_att_key=True,
            pos_att_type="p2c|c2p",
            norm_rel_ebd="layer_norm",
            conv_kernel_size=3,
        ),
        misread={"norm_rel_ebd": "none"},
    ),
    # Distances one by one, with projections of their own; positions and types besides.
    "deberta-v2-plain": Case(
        DebertaV2Config(
            **TINY,
            type_vocab_size=2,
            relative_attention=True,
            max_relative_positions=6,
            pos_att_type=["c2p", "p2c"],
        ),
        misread={"pos_att_type": ["c2p"]},
    ),
    # A window of three to either side on the second and third layers, rotary embeddings of two kinds.
    "modernbert": Case(
        ModernBertConfig(**TINY | {"num_hidden_layers": 3}, **MODERN, local_attention=6),
        misread={"local_attention": 8},
    ),
    # The keys of transformers 4, and every bias.
    "modernbert-keys": Case(
        ModernBertConfig(
            **TINY,
            **MODERN,
            local_attention=8,
            norm_bias=True,
            attention_bias=True,
            mlp_bias=True,
            global_attn_every_n_layers=2,
            global_rope_theta=500.0,
            local_rope_theta=50.0,
        ),
        patch={
            "layer_types": None,
            "rope_parameters": None,
            "dtype": None,
            "torch_dtype": "float32",
            "global_attn_every_n_layers": 2,
            "global_rope_theta": 500.0,
            "local_rope_theta": 50.0,
        },
        misread={"layer_types": ["full_attention", "full_attention"]},
    ),
}
PADDED = {"roberta": 1, "xlm-roberta": 3}


@torch.no_grad()
def randomize(model: torch.nn.Module, generator: torch.Generator) -> None:
    for name, parameter in model.named_parameters():
        if "norm" in name.lower() and name.endswith("weight"):
            parameter.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("bias"):
            parameter.normal_(0, 0.3, generator=generator)
        elif "embeddings" in name:
            parameter.normal_(0, 0.5, generator=generator)
        else:
            parameter.normal_(0, 1.3 * parameter[0].numel() ** -0.5, generator=generator)


def load(folder: Path, kind=AutoModel, **more) -> torch.nn.Module:
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **more).eval()


@dataclass(frozen=True)
class Rows:
    ids: torch.Tensor
    type_ids: torch.Tensor
    lengths: list[int]

    @property
    def mask(self) -> torch.Tensor:
        return (torch.arange(self.ids.shape[1]) < torch.tensor(self.lengths)[:, None]).long()

    def feeds(self, model: torch.nn.Module) -> dict:
        types = getattr(model.config, "type_vocab_size", 0)
        more = {"token_type_ids": self.type_ids} if types > 0 else {}
        return {"input_ids": self.ids, "attention_mask": self.mask} | more


def rows_of(name: str, types: int, generator: torch.Generator) -> Rows:
    size = max(LENGTHS)
    ids = torch.full((len(LENGTHS), size), PADDED.get(name, 0))
    type_ids = torch.zeros_like(ids)
    for row, (length, second) in enumerate(zip(LENGTHS, SECOND, strict=True)):
        ids[row, :length] = torch.randint(4, VOCAB, (length,), generator=generator)
        if types > 1:
            type_ids[row, second:length] = 1
    return Rows(ids, type_ids, list(LENGTHS))


def states(model: torch.nn.Module, rows: Rows) -> tuple[torch.Tensor, torch.Tensor | None]:
    out = model(**rows.feeds(model))
    return out.last_hidden_state * rows.mask[:, :, None], getattr(out, "pooler_output", None)


def attach_adapter(name: str, folder: Path, generator: torch.Generator) -> PeftModel:
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "FEATURE_EXTRACTION"}
    model = get_peft_model(load(folder), LoraConfig(**options))
    with torch.no_grad():
        for key, parameter in ref.adapter_parameters(model).items():
            scale = 0.1 if ".lora_B." in key else parameter.shape[1] ** -0.5
            parameter.normal_(0, scale, generator=generator)
    fx.save_adapter(model, name, folder / "adapter")
    config = folder / "adapter" / "adapter_config.json"
    facts = json.loads(config.read_text()) | {"base_model_name_or_path": f"{ROOT}/{name}"}
    config.write_text(json.dumps(facts, indent=1) + "\n")
    return model.eval()


def task_names(folder: Path, targets: list[str]) -> list[str]:
    """The names that the same adapter has in the file of a classifier."""
    classifier = load(folder, AutoModelForSequenceClassification, num_labels=3)
    model = get_peft_model(classifier, LoraConfig(r=4, target_modules=targets, task_type="SEQ_CLS"))
    return sorted(key for key in ref.adapter_parameters(model) if ".lora_" in key)


def head_names(config: PreTrainedConfig) -> list[str]:
    """What a checkpoint for masked tokens has beside the encoder."""
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(config)
    return sorted(name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}."))


def prefix_of(folder: Path, rows: Rows) -> dict[str, torch.Tensor]:
    """Hidden states behind trained keys and values; none where PEFT refuses them for a classifier of the kind."""
    config = AutoConfig.from_pretrained(folder)
    options = {"num_virtual_tokens": VIRTUAL}
    try:
        classifier = load(folder, AutoModelForSequenceClassification)
        get_peft_model(classifier, PrefixTuningConfig(task_type="SEQ_CLS", **options))(**rows.feeds(classifier))
        model = get_peft_model(load(folder), PrefixTuningConfig(task_type="FEATURE_EXTRACTION", **options)).eval()
    except (ValueError, RuntimeError) as error:
        print(f"    no prefix for {config.model_type}: {error}")
        return {}
    weights = next(iter(ref.adapter_parameters(model).values()))
    # PEFT drops the types of tokens here.
    hidden = model(input_ids=rows.ids, attention_mask=rows.mask).last_hidden_state * rows.mask[:, :, None]
    return {"prefix": weights.detach().clone(), "prefix_hidden": hidden.detach()}


def make(name: str, folder: Path, seed: int) -> None:
    case = CASES[name]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = AutoModel.from_config(case.config)
    randomize(model, generator)
    model.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text()) | case.patch
    dropped = {key for key, value in case.patch.items() if value is None}
    path.write_text(json.dumps({key: config[key] for key in config if key not in dropped}, indent=1) + "\n")

    rows = rows_of(name, getattr(case.config, "type_vocab_size", 0), generator)
    batch = {"ids": rows.ids.tolist(), "lengths": rows.lengths, "type_ids": rows.type_ids.tolist()}
    ref.write_json(folder / "batch.json", batch)

    with torch.no_grad():
        base, _ = states(load(folder), rows)
    model = attach_adapter(name, folder, generator)
    hidden, pooled = states(model, rows)
    cotangent = torch.randn(hidden.shape, generator=generator) * rows.mask[:, :, None]
    total = (hidden * cotangent).sum()
    expected = {"base_hidden": base, "adapted_hidden": hidden.detach(), "cotangent": cotangent}
    if pooled is not None:
        expected["pooled"] = pooled.detach()
        expected["pooled_cotangent"] = torch.randn(pooled.shape, generator=generator)
        total = total + (pooled * expected["pooled_cotangent"]).sum()
    parameters = ref.adapter_parameters(model)
    gradients = torch.autograd.grad(total, list(parameters.values()))
    expected |= fx.named_gradients(dict(zip(parameters, gradients, strict=True)))
    with torch.no_grad():
        merged = PeftModel.from_pretrained(load(folder), folder / "adapter").merge_and_unload()
        expected["merged_hidden"], _ = states(merged, rows)
    expected |= prefix_of(folder, rows)

    if case.misread:
        config = AutoConfig.from_pretrained(folder)
        for key, value in case.misread.items():
            setattr(config, key, value)
        with torch.no_grad():
            wrong, _ = states(load(folder, config=config), rows)
        assert ref.relative_error(wrong, base) > 1e-2, f"{name}: a misread config would go unseen"
    assert ref.relative_error(expected["adapted_hidden"], base) > 0.05, f"{name}: idle adapter"
    assert ref.relative_error(expected["merged_hidden"], expected["adapted_hidden"]) < 1e-5, f"{name}: merge differs"
    assert all(gradient.norm() > 1e-4 for gradient in gradients), name

    targets = sorted({key.split(".lora_")[0].removeprefix("base_model.model.") for key in parameters})
    inner = [target for target in targets if not target.startswith("pooler.")]
    facts = {
        "task_names": task_names(folder, inner),
        "head_names": head_names(case.config),
        "takes_prefix": "prefix" in expected,
    }
    fx.write_expected(folder, expected, facts)


def check(adapter: Path, name: str) -> None:
    """Loads what lowrank wrote as the adapter of a classifier, by PEFT, and compares the states of its encoder."""
    folder = fx.GOLDEN / ROOT / name
    batch = json.loads((folder / "batch.json").read_text())
    rows = Rows(torch.tensor(batch["ids"]), torch.tensor(batch["type_ids"]), batch["lengths"])
    model = PeftModel.from_pretrained(load(folder, AutoModelForSequenceClassification), adapter).eval()
    with torch.no_grad():
        encoder = getattr(model.base_model.model, model.base_model.model.base_model_prefix)
        hidden, _ = states(encoder, rows)
    error = ref.relative_error(hidden, load_file(folder / "expected.safetensors")["adapted_hidden"])
    print(f"{name}: {error:.1e}")
    assert error < 1e-5, name


def defaults() -> None:
    kept = {}
    for case in CASES.values():
        kind = type(case.config)
        kept[kind.model_type] = {
            key: value
            for key, value in kind().to_dict().items()
            if isinstance(value, (int, float, str, list)) and key not in ("transformers_version", "dtype")
        }
    ref.write_json(fx.GOLDEN / ROOT / "defaults.json", kept)


def distances() -> None:
    """The index of each distance from 1 - furthest to furthest - 1, as build_relative_position and its users have it."""
    kept = {}
    for span, furthest in ((256, 512), (32, 128), (4, 64)):
        indices = make_log_bucket_position(torch.arange(1 - furthest, furthest), span, furthest).long() + span
        kept[f"{span} {furthest}"] = indices.clamp(0, 2 * span - 1).tolist()
    ref.write_json(fx.GOLDEN / ROOT / "distances.json", kept)


if __name__ == "__main__":
    if "--check" in sys.argv:
        ref.be_deterministic()
        check(Path(sys.argv[2]), sys.argv[3])
    else:
        fx.main(ROOT, CASES, make)
        defaults()
        distances()
