#!/usr/bin/env python3
"""Makes test/golden/fixtures-tasks: the tiny models of the other suites with a task's head and a LoRA by PEFT.

    .venv/bin/python scripts/parity/make_task_fixtures.py            # all cases, in place of what is there
    .venv/bin/python scripts/parity/make_task_fixtures.py bert       # one
    .venv/bin/python scripts/parity/make_task_fixtures.py --check FOLDER CASE    # what lowrank wrote, loaded by transformers

Each case is a folder:
    batch.json              ids [B, S] right-padded, lengths, type_ids [B, S], targets: of each row, or of its tokens (-100: none)
    adapter/                a LoRA on attention and MLP with B != 0 and the head whole, written by PEFT (SEQ_CLS or TOKEN_CLS)
    expected.safetensors    logits [B, outputs] or [tokens, outputs]; grad.<key> of the loss for all that trains
    expected.json           the base's folder, the task, the loss, and 20 steps of AdamW: recipe, losses, grad_norms

Weights are drawn so that a mistake shows. Everything is float32 with eager attention on one thread.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

import fixtures as fx
import reference as ref

ROOT = "fixtures-tasks"
LENGTHS = (13, 9, 5, 7)
SECOND = (7, 4, 5, 3)
LABELS = ["no", "yes", "maybe"]
RECIPE = ref.RECIPE | {"learning_rate": 0.005}


@dataclass(frozen=True)
class Case:
    # Folder of test/golden with the model, which has no head.
    base: str
    targets: list[str]
    # Modules of the head beside the one that PEFT knows.
    saved: list[str] = field(default_factory=list)
    task: str = "sequence-classification"
    # Keys of config.json that the model is opened with.
    config: dict = field(default_factory=dict)


def encoder(name: str, targets: list[str], **more) -> Case:
    return Case(f"fixtures-encoders/{name}", targets, **more)


CASES = {
    "bert": encoder("bert", ["query", "value"]),
    "bert-regression": encoder("bert", ["query", "value"], task="regression"),
    "bert-tokens": encoder("bert", ["query", "value"], task="token-classification"),
    "roberta": encoder("roberta", ["query", "value"]),
    "roberta-tokens": encoder("roberta", ["query", "value"], task="token-classification"),
    "xlm-roberta": encoder("xlm-roberta", ["query", "value"]),
    "distilbert": encoder("distilbert", ["q_lin", "v_lin"], saved=["pre_classifier"]),
    "deberta-v2": encoder("deberta-v2", ["query_proj", "value_proj"], saved=["pooler"]),
    "modernbert": encoder("modernbert", ["Wqkv", "attn.Wo"], saved=["head"]),
    "modernbert-mean": encoder(
        "modernbert-keys", ["Wqkv", "attn.Wo"], saved=["head"], config={"classifier_pooling": "mean"}
    ),
    "modernbert-tokens": encoder(
        "modernbert", ["Wqkv", "attn.Wo"], saved=["head"], task="token-classification"
    ),
    "llama3": Case("fixtures/llama3", ["q_proj", "v_proj"]),
    "llama3-tokens": Case("fixtures/llama3", ["q_proj", "v_proj"], task="token-classification"),
    "gemma3_text": Case("fixtures/gemma3_text", ["q_proj", "v_proj"]),
    "gpt2": Case("fixtures/gpt2", ["c_attn"]),
    "gpt2-tokens": Case("fixtures/gpt2", ["c_attn"], task="token-classification"),
    "gpt_neox": Case("fixtures/gpt_neox", ["query_key_value"]),
}


@dataclass(frozen=True)
class Rows:
    ids: torch.Tensor
    type_ids: torch.Tensor
    lengths: list[int]
    targets: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        return (torch.arange(self.ids.shape[1]) < torch.tensor(self.lengths)[:, None]).long()


def logits_of(model: torch.nn.Module, rows: Rows) -> torch.Tensor:
    types = getattr(model.config, "type_vocab_size", 0)
    more = {"token_type_ids": rows.type_ids} if types > 0 else {}
    return model(input_ids=rows.ids, attention_mask=rows.mask, **more).logits


def loss_of(model: torch.nn.Module, rows: Rows) -> torch.Tensor:
    logits = logits_of(model, rows)
    if rows.targets.is_floating_point():
        return F.mse_loss(logits.squeeze(-1), rows.targets)
    return F.cross_entropy(logits.flatten(0, -2), rows.targets.flatten())


def load(case: Case) -> torch.nn.Module:
    kinds = {"token-classification": AutoModelForTokenClassification}
    kind = kinds.get(case.task, AutoModelForSequenceClassification)
    # The last token of a decoder's row is the last that is not this one; the encoders' positions depend on their own.
    padded = {} if "encoders" in case.base else {"pad_token_id": 0}
    labels = ["LABEL_0"] if case.task == "regression" else LABELS
    return kind.from_pretrained(
        fx.GOLDEN / case.base,
        dtype=torch.float32,
        attn_implementation="eager",
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        **padded,
        **case.config,
    ).eval()


def rows_of(case: Case, vocab: int, types: int, pad: int, generator: torch.Generator) -> Rows:
    size = max(LENGTHS)
    ids = torch.full((len(LENGTHS), size), pad)
    type_ids = torch.zeros_like(ids)
    for row, (length, second) in enumerate(zip(LENGTHS, SECOND, strict=True)):
        ids[row, :length] = torch.randint(4, vocab, (length,), generator=generator)
        # Words come without a second text.
        if types > 1 and case.task != "token-classification":
            type_ids[row, second:length] = 1
    if case.task == "regression":
        targets = torch.randn(len(LENGTHS), generator=generator)
    elif case.task == "sequence-classification":
        targets = torch.tensor([0, 2, 1, 2])
    else:
        targets = torch.randint(0, len(LABELS), ids.shape, generator=generator)
        # A word's first token has its label.
        targets[torch.rand(ids.shape, generator=generator) < 0.3] = -100
        targets[torch.arange(size) >= torch.tensor(LENGTHS)[:, None]] = -100
    return Rows(ids, type_ids, list(LENGTHS), targets)


def attach(case: Case, generator: torch.Generator) -> PeftModel:
    kind = "TOKEN_CLS" if case.task == "token-classification" else "SEQ_CLS"
    options = {"r": 4, "lora_alpha": 8, "target_modules": case.targets, "task_type": kind}
    model = get_peft_model(load(case), LoraConfig(**options, modules_to_save=case.saved or None))
    with torch.no_grad():
        for key, parameter in ref.adapter_parameters(model).items():
            scale = 0.1 if ".lora_B." in key else 0.3
            if ".lora_A." in key:
                scale = parameter.shape[1] ** -0.5
            if "norm" in key:
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                parameter.normal_(0, scale, generator=generator)
    return model.eval()


def make(name: str, folder: Path, seed: int) -> None:
    case = CASES[name]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = attach(case, generator)
    fx.save_adapter(model, name, folder / "adapter")
    path = folder / "adapter" / "adapter_config.json"
    facts = json.loads(path.read_text()) | {"base_model_name_or_path": case.base}
    facts["modules_to_save"] = sorted(facts["modules_to_save"])
    path.write_text(json.dumps(facts, indent=1) + "\n")

    config = model.config
    types = getattr(config, "type_vocab_size", 0)
    rows = rows_of(case, config.vocab_size, types, config.pad_token_id, generator)
    ref.write_json(
        folder / "batch.json",
        {
            "ids": rows.ids.tolist(),
            "lengths": rows.lengths,
            "type_ids": rows.type_ids.tolist(),
            "targets": rows.targets.tolist(),
        },
    )
    logits = logits_of(model, rows)
    if case.task == "token-classification":
        logits = logits.flatten(0, 1)[rows.targets.flatten() != -100]
    loss = loss_of(model, rows)
    parameters = ref.adapter_parameters(model)
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    assert all(gradient.norm() > 1e-6 for gradient in gradients), name
    expected = {"logits": logits.detach()} | fx.named_gradients(dict(zip(parameters, gradients, strict=True)))
    run = ref.train(model, rows, RECIPE, loss_of=loss_of)
    task = {"kind": case.task} | ({} if case.task == "regression" else {"labels": LABELS})
    facts = {"base": case.base, "config": case.config, "task": task, "loss": loss.item(), "recipe": RECIPE}
    fx.write_expected(folder, expected, facts | run)


def check(folder: Path, name: str) -> None:
    """Loads what lowrank wrote, a merged model by transformers alone or an adapter by PEFT, and compares the logits."""
    case = CASES[name]
    batch = json.loads((fx.GOLDEN / ROOT / name / "batch.json").read_text())
    rows = Rows(
        torch.tensor(batch["ids"]), torch.tensor(batch["type_ids"]), batch["lengths"], torch.tensor(batch["targets"])
    )
    if (folder / "adapter_config.json").exists():
        model = PeftModel.from_pretrained(load(case), folder).eval()
    else:
        model = type(load(case)).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        model.config.pad_token_id = 0 if model.config.pad_token_id is None else model.config.pad_token_id
    with torch.no_grad():
        logits = logits_of(model, rows)
    if case.task == "token-classification":
        logits = logits.flatten(0, 1)[rows.targets.flatten() != -100]
    error = ref.relative_error(logits, load_file(fx.GOLDEN / ROOT / name / "expected.safetensors")["logits"])
    print(f"{name}: {error:.1e}")
    assert error < 1e-5, name


if __name__ == "__main__":
    if "--check" in sys.argv:
        ref.be_deterministic()
        check(Path(sys.argv[2]), sys.argv[3])
    else:
        fx.main(ROOT, CASES, make)
