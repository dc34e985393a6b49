#!/usr/bin/env python3
"""Makes test/golden/fixtures-gguf/gemma3-270m.json: what transformers makes of Gemma 3 270M, read from its GGUF file.

    .venv/bin/python scripts/fetch_models.py gemma3-270m
    .venv/bin/python scripts/parity/make_gemma3.py .cache/models/gemma-3-270m-q4_k_m.gguf [IDS.json]

Greedy tokens, a loss by token, and the largest logits behind the prompt, all in float32. Token ids of texts are those of
llama.cpp itself: IDS.json is a list of [text, ids] that `model.tokenize(text, true)` of node-llama-cpp 3.22.1 gave; without
it those of before are kept.

Versions that made what is committed: transformers 5.23.0, torch 2.13.0, gguf 0.19.0.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "fixtures-gguf" / "gemma3-270m.json"
PROMPT = [2, 818, 1806, 7488, 9979, 529, 7001, 659]
NEW_TOKENS = 24


def main() -> None:
    path = Path(sys.argv[1])
    tokens = json.loads(Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else json.loads(OUT.read_text())["tokens"]
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([PROMPT])).logits[0, -1]
        greedy = model.generate(torch.tensor([PROMPT]), max_new_tokens=NEW_TOKENS, do_sample=False)[0].tolist()
        ids = torch.tensor([greedy])
        log_probs = torch.log_softmax(model(ids).logits[0, :-1], -1)
        losses = -log_probs.gather(1, ids[0, 1:, None])[:, 0]
    top = torch.topk(logits, 16)
    golden = {
        "prompt": PROMPT,
        "greedy": greedy[len(PROMPT) :],
        "losses": [round(x, 6) for x in losses.tolist()],
        "top": [[i, round(x, 5)] for i, x in zip(top.indices.tolist(), top.values.tolist())],
        "tokens": tokens,
    }
    lines = [f' "{key}": {json.dumps(value)}' for key, value in golden.items() if key != "tokens"]
    texts = ",\n".join(f"  {json.dumps(pair)}" for pair in tokens)
    OUT.write_text("{\n" + ",\n".join(lines) + ',\n "tokens": [\n' + texts + "\n ]\n}\n")


if __name__ == "__main__":
    main()
