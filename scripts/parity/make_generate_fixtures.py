#!/usr/bin/env python3
"""Makes test/golden/fixtures-generate: what transformers makes of the options of generation.

    .venv/bin/python scripts/parity/make_generate_fixtures.py

    expected.json   processed: scores before and after the logits processors of a generation_config.json and options of a
                              call, in transformers' own order; null is -inf
                    greedy: tokens that generate() chooses on fixtures/MODEL; versions
Runs in a few seconds.
"""

from __future__ import annotations

import json
import math

import torch
import transformers
from transformers import GenerationConfig

import fixtures as fx

FIXTURES = fx.GOLDEN / "fixtures-generate"
MODEL = "llama3"
VOCABULARY = 24
EOS = [5, 7]
SAID = [3, 11, 6, 9, 4, 3, 11]
NEW = 3

# Each: what generation_config.json says, and what the call says over it.
PROCESSED = {
    "nothing": ({}, {}),
    "sample as the file says": ({"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}, {}),
    "sample, nothing else": ({"do_sample": True}, {}),
    "qwen": ({"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}, {}),
    "flags win": ({"do_sample": True, "temperature": 0.7, "top_k": 3, "repetition_penalty": 1.3}, {"top_k": 5, "temperature": 1.4, "repetition_penalty": 1.1}),
    "top_k": ({}, {"do_sample": True, "top_k": 4}),
    "top_p 0.9": ({}, {"do_sample": True, "top_p": 0.9}),
    "top_p 0.5, all of them": ({}, {"do_sample": True, "top_k": 0, "top_p": 0.5}),
    "top_p tiny": ({}, {"do_sample": True, "top_p": 0.001}),
    "min_p": ({}, {"do_sample": True, "min_p": 0.2}),
    "min_p, hot": ({}, {"do_sample": True, "min_p": 0.4, "temperature": 2.0}),
    "all of the warpers": ({}, {"do_sample": True, "temperature": 1.5, "top_k": 12, "top_p": 0.85, "min_p": 0.1}),
    "repetition_penalty": ({}, {"repetition_penalty": 1.7}),
    "repetition_penalty below 1": ({}, {"repetition_penalty": 0.6}),
    "no_repeat_ngram_size 1": ({}, {"no_repeat_ngram_size": 1}),
    "no_repeat_ngram_size 2": ({"no_repeat_ngram_size": 2}, {}),
    "no_repeat_ngram_size 3": ({}, {"no_repeat_ngram_size": 3}),
    "bad_words_ids": ({"bad_words_ids": [[2], [5], [3, 11, 6], [11, 8], [9, 1]]}, {}),
    "suppress_tokens": ({"suppress_tokens": [0, 13]}, {}),
    "begin_suppress_tokens, behind the beginning": ({"begin_suppress_tokens": [0, 13]}, {}),
    "min_new_tokens": ({}, {"min_new_tokens": 4}),
    "min_new_tokens reached": ({}, {"min_new_tokens": 3}),
    "min_length": ({"min_length": 8}, {}),
    "everything": (
        {"do_sample": True, "repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "suppress_tokens": [1], "min_new_tokens": 9},
        {"temperature": 0.8, "top_k": 10, "top_p": 0.95, "min_p": 0.02, "bad_words_ids": [[3, 11, 2]]},
    ),
}
# Of a text that has no new token yet.
FIRST = {"begin_suppress_tokens": ({"begin_suppress_tokens": [0, 13]}, {})}

GREEDY = {
    "plain": ({}, {"max_new_tokens": 16}),
    "max_new_tokens of the file": ({"max_new_tokens": 7}, {}),
    "max_length of the file": ({"max_length": 20}, {}),
    "max_length 15 of the file": ({"max_length": 15}, {}),
    "repetition_penalty": ({"repetition_penalty": 4.0}, {"max_new_tokens": 16}),
    "no_repeat_ngram_size": ({}, {"max_new_tokens": 24, "no_repeat_ngram_size": 2}),
    "suppress_tokens": ({"suppress_tokens": [19, 17, 83]}, {"max_new_tokens": 16}),
    "begin_suppress_tokens": ({"begin_suppress_tokens": [19, 17]}, {"max_new_tokens": 8}),
    "bad_words_ids": ({"bad_words_ids": [[token] for token in range(1, 96, 2)]}, {"max_new_tokens": 12}),
    "sampling switched off": ({"do_sample": True, "temperature": 0.7}, {"do_sample": False, "max_new_tokens": 8}),
}


def logits(seed: int) -> torch.Tensor:
    """Some are equal, so that cuts have ties to break."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.empty(1, VOCABULARY).normal_(0, 2, generator=generator)
    return torch.round(scores * (4 if seed % 2 else 1000)) / (4 if seed % 2 else 1000)


def short(scores: torch.Tensor) -> list[float | None]:
    return [None if score == -math.inf else float(f"{score:.7g}") for score in scores[0].tolist()]


def processors(model, config: GenerationConfig, said: list[int], fresh: int):
    config._eos_token_tensor = torch.tensor(EOS)
    return model._get_logits_processor(config, input_ids_seq_length=len(said) - fresh, device="cpu")


def processed(model, case: tuple[dict, dict], said: list[int], fresh: int) -> list[dict]:
    file, call = case
    rows = []
    for seed in range(4):
        model.generation_config = GenerationConfig(eos_token_id=EOS, **file)
        config, _ = model._prepare_generation_config(None, **call)
        scores = logits(seed)
        after = processors(model, config, said, fresh)(torch.tensor([said]), scores.clone())
        rows.append({"scores": short(scores), "after": short(after)})
    return rows


def main() -> None:
    model = fx.load_base(MODEL)
    prompt = [1, 17, 40, 3, 66, 12, 40, 3, 9, 2]
    entries = []
    for said, fresh, cases in ((SAID, NEW, PROCESSED), (SAID, 0, FIRST)):
        for name, (file, call) in cases.items():
            rows = processed(model, (file, call), said, fresh)
            entries.append({"name": name, "file": file, "call": call, "said": said, "fresh": fresh, "rows": rows})
    greedy = []
    for name, (file, call) in GREEDY.items():
        model.generation_config = GenerationConfig(eos_token_id=None, pad_token_id=0, **file)
        out = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), **call)
        greedy.append({"name": name, "file": file, "call": call, "tokens": out[0, len(prompt) :].tolist()})
    content = {"eos": EOS, "processed": entries, "model": MODEL, "prompt": prompt, "greedy": greedy}
    content["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    FIXTURES.mkdir(exist_ok=True)
    (FIXTURES / "expected.json").write_text(json.dumps(content) + "\n")
    print(f"{len(entries)} processed, {len(greedy)} greedy")


if __name__ == "__main__":
    main()
