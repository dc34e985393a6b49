#!/usr/bin/env python3
"""Makes test/golden/minilm: what transformers makes of texts with all-MiniLM-L6-v2, pooled as its modules.json says.

    python3 scripts/fetch_models.py all-minilm-l6-v2
    .venv/bin/python scripts/parity/make_minilm.py [FOLDER]

expected.json has the texts, and pairs with their contrastive loss (MultipleNegativesRankingLoss of sentence-transformers with
its defaults, written out) and how many find their match; expected.safetensors the embeddings, [texts, 384], of length 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoTokenizer

import fixtures as fx
import reference as ref

FOLDER = fx.ROOT / ".cache" / "models" / "all-MiniLM-L6-v2"
MAX_LENGTH = 256

TEXTS = [
    "A man is eating food.",
    "Someone is having a meal.",
    "The stock market fell sharply on Monday.",
    "  spaces   and\ttabs\n",
    "Déjà vu: naïve café, Ångström, Straße",
    "東京は日本の首都です。",
    "LoRA 🙂 r=8, α=16; W₀ + BA",
    "x",
    " ".join(f"The {n}th sentence of a text that is too long." for n in range(60)),
]
PAIRS = [
    ("How do I bake bread?", "Mix flour, water, salt and yeast, let the dough rise, and put it into a hot oven."),
    ("What is the capital of France?", "Paris is the capital and the largest city of France."),
    ("Who wrote Hamlet?", "The tragedy was written by William Shakespeare around 1600."),
    ("Why is the sky blue?", "Air scatters short waves of sunlight more than long ones."),
    ("How far is the moon?", "Its mean distance from the earth is 384,400 kilometres."),
    ("What do bees make?", "They turn nectar into honey."),
]


@torch.no_grad()
def main() -> None:
    ref.be_deterministic()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    def embed(texts: list[str]) -> torch.Tensor:
        rows = tokenizer(texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        mask = rows["attention_mask"][..., None]
        hidden = model(**rows).last_hidden_state
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)

    scores = 20 * embed([a for a, _ in PAIRS]) @ embed([b for _, b in PAIRS]).T
    targets = torch.arange(len(PAIRS))
    target = fx.GOLDEN / "minilm"
    target.mkdir(exist_ok=True)
    facts = {
        "texts": TEXTS,
        "pairs": [{"query": a, "answer": b} for a, b in PAIRS],
        "loss": F.cross_entropy(scores, targets).item(),
        "accuracy": (scores.argmax(1) == targets).float().mean().item(),
    }
    fx.write_expected(target, {"embeddings": embed(TEXTS)}, facts)


main()
