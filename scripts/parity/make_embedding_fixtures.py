#!/usr/bin/env python3
"""Makes test/golden/fixtures-embeddings: the tiny models of the other suites with a LoRA by PEFT, as encoders of sentences.

    .venv/bin/python scripts/parity/make_embedding_fixtures.py            # all cases, in place of what is there
    .venv/bin/python scripts/parity/make_embedding_fixtures.py bert       # one
    .venv/bin/python scripts/parity/make_embedding_fixtures.py --check FOLDER CASE    # what lowrank wrote, by PEFT or transformers

Each case is a folder:
    batch.json              texts [columns][rows]: token ids of the anchors, of their matches, and maybe of a negative each
    adapter/                a LoRA with B != 0, written by PEFT (FEATURE_EXTRACTION)
    expected.safetensors    embeddings [columns * rows, H], a column behind the other; grad.<key> of the loss for every A and B
    expected.json           the base's folder, the task, the loss, how many anchors find their match and the mean of one over
                            its place, and 20 steps of AdamW: recipe, losses, grad_norms

The loss is MultipleNegativesRankingLoss of sentence-transformers with its defaults, written out: cosines times 20, and the
cross-entropy of each anchor's match among all matches and negatives. Weights are drawn so that a mistake shows.
Everything is float32 with eager attention on one thread.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModel

import fixtures as fx
import reference as ref

ROOT = "fixtures-embeddings"
LENGTHS = ((9, 5, 7, 3), (13, 8, 11, 6), (10, 4, 12, 7))
SCALE = 20.0
RECIPE = ref.RECIPE | {"learning_rate": 0.002}


@dataclass(frozen=True)
class Case:
    # Folder of test/golden with the model, which has no head.
    base: str
    targets: list[str]
    pooling: str = "mean"
    normalize: bool = True
    columns: int = 2


CASES = {
    "bert": Case("fixtures-encoders/bert", ["query", "value"]),
    "roberta-cls": Case("fixtures-encoders/roberta", ["query", "dense"], pooling="cls", columns=3),
    "modernbert": Case("fixtures-encoders/modernbert", ["Wqkv", "attn.Wo"], normalize=False),
    "llama3-last": Case("fixtures/llama3", ["q_proj", "v_proj"], pooling="last", columns=3),
}


@dataclass(frozen=True)
class Rows:
    """Texts by columns, token ids each."""

    case: Case
    texts: list[list[list[int]]]
    pad: int

    def embeddings(self, model: torch.nn.Module) -> torch.Tensor:
        flat = [ids for column in self.texts for ids in column]
        lengths = torch.tensor([len(ids) for ids in flat])
        size = int(lengths.max())
        ids = torch.tensor([ids + [self.pad] * (size - len(ids)) for ids in flat])
        mask = (torch.arange(size) < lengths[:, None]).long()
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.case.pooling == "mean":
            pooled = (hidden * mask[..., None]).sum(1) / lengths[:, None]
        elif self.case.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            pooled = hidden[torch.arange(len(flat)), lengths - 1]
        return F.normalize(pooled, dim=1) if self.case.normalize else pooled

    def scores(self, model: torch.nn.Module) -> torch.Tensor:
        embeddings = F.normalize(self.embeddings(model), dim=1)
        count = len(self.texts[0])
        return embeddings[:count] @ embeddings[count:].T * SCALE


def loss_of(model: torch.nn.Module, rows: Rows) -> torch.Tensor:
    scores = rows.scores(model)
    return F.cross_entropy(scores, torch.arange(len(scores)))


def load(case: Case) -> torch.nn.Module:
    return AutoModel.from_pretrained(
        fx.GOLDEN / case.base, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def attach(case: Case, generator: torch.Generator) -> PeftModel:
    options = {"r": 4, "lora_alpha": 8, "target_modules": case.targets, "task_type": "FEATURE_EXTRACTION"}
    model = get_peft_model(load(case), LoraConfig(**options))
    with torch.no_grad():
        for key, parameter in ref.adapter_parameters(model).items():
            scale = 0.1 if ".lora_B." in key else parameter.shape[1] ** -0.5
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
    path.write_text(json.dumps(facts, indent=1) + "\n")

    vocab = model.config.vocab_size
    texts = [
        [torch.randint(4, vocab, (length,), generator=generator).tolist() for length in column]
        for column in LENGTHS[: case.columns]
    ]
    rows = Rows(case, texts, model.config.pad_token_id or 0)
    ref.write_json(folder / "batch.json", {"texts": texts})
    scores = rows.scores(model).detach()
    places = 1 + (scores > scores.diagonal()[:, None]).sum(1)
    loss = loss_of(model, rows)
    parameters = ref.adapter_parameters(model)
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    # The pooler is a target, and no embedding is made of it.
    gradients = {
        key: torch.zeros_like(parameters[key]) if gradient is None else gradient
        for key, gradient in zip(parameters, found, strict=True)
    }
    assert all(gradient.norm() > 1e-6 for key, gradient in gradients.items() if ".pooler." not in key), name
    expected = {"embeddings": rows.embeddings(model).detach()} | fx.named_gradients(gradients)
    run = ref.train(model, rows, RECIPE, loss_of=loss_of)
    fx.write_expected(
        folder,
        expected,
        {
            "base": case.base,
            "task": {"kind": "embedding", "pooling": case.pooling, "normalize": case.normalize},
            "loss": loss.item(),
            "accuracy": (places == 1).float().mean().item(),
            "mrr": (1 / places).mean().item(),
            "recipe": RECIPE,
        }
        | run,
    )


def check(folder: Path, name: str) -> None:
    """Loads what lowrank wrote, a merged model by transformers alone or an adapter by PEFT, and compares the embeddings."""
    case = CASES[name]
    if (folder / "adapter_config.json").exists():
        model = PeftModel.from_pretrained(load(case), folder).eval()
        assert model.peft_config["default"].task_type == "FEATURE_EXTRACTION"
    else:
        model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    texts = json.loads((fx.GOLDEN / ROOT / name / "batch.json").read_text())["texts"]
    rows = Rows(case, texts, model.config.pad_token_id or 0)
    with torch.no_grad():
        embeddings = rows.embeddings(model)
    expected = load_file(fx.GOLDEN / ROOT / name / "expected.safetensors")["embeddings"]
    error = ref.relative_error(embeddings, expected)
    print(f"{name}: {error:.1e}")
    assert error < 1e-5, name


if __name__ == "__main__":
    if "--check" in sys.argv:
        ref.be_deterministic()
        check(Path(sys.argv[2]), sys.argv[3])
    else:
        fx.main(ROOT, CASES, make)
