#!/usr/bin/env python3
"""Write down what the Rust library makes of pairs of texts, whole and cut to a length: src/formats/fixtures/tokenizer/pairs.json.

    .venv/bin/python scripts/parity/make_pair_fixtures.py

Reference: the `tokenizers` wheel, longest text cut first, as transformers does with truncation=True. Versions: see requirements.txt.
"""

from __future__ import annotations

import json

from make_tokenizer_fixtures import ADDED, FOLDER, METASPACES, PROCESSORS, unigram, whole, word_piece
from tokenizers import Tokenizer

A, B = "hello the fox ran it day", "the world of it"
TEXTS = [(A, None), (A, B), (B, A), ("hello", A), (A, "hello"), ("", B), (A, ""), ("x y ab abab hell", "hello world")]
LENGTHS = [5, 6, 7, 8, 9, 10, 12, 14, 64]


def piece(kind: str, name: str, type_id: int) -> dict:
    return {kind: {"id": name, "type_id": type_id}}


TEMPLATES = [
    # BERT's, and XLM-RoBERTa's with two tokens between.
    {
        "type": "TemplateProcessing",
        "single": [piece("SpecialToken", "<s>", 0), piece("Sequence", "A", 0), piece("SpecialToken", "</s>", 0)],
        "pair": [
            piece("SpecialToken", "<s>", 0), piece("Sequence", "A", 0), piece("SpecialToken", "</s>", 0),
            *between, piece("Sequence", "B", of), piece("SpecialToken", "</s>", of),
        ],
        "special_tokens": PROCESSORS[1]["special_tokens"] | {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}},
    }
    for between, of in (([], 1), ([piece("SpecialToken", "</s>", 0)], 0))
]  # fmt: skip
BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}


def tokenizers() -> list[dict]:
    words = {"normalizer": BERT, "pre_tokenizer": {"type": "BertPreTokenizer"}, "added_tokens": ADDED["plain"]}
    pieces = {"pre_tokenizer": METASPACES[0], "added_tokens": ADDED["plain"]}
    sequence = {"type": "Sequence", "processors": [PROCESSORS[4], TEMPLATES[1]]}
    return [
        *(whole(word_piece(), **words, post_processor=of) for of in (*PROCESSORS, *TEMPLATES)),
        *(whole(unigram(), **pieces, post_processor=of) for of in (PROCESSORS[3], TEMPLATES[1], sequence)),
    ]


def encoded(tokenizer: Tokenizer, length: int | None, texts: tuple[str, str | None]) -> list[list[int]] | None:
    tokenizer.no_truncation()
    if length is not None:
        try:
            tokenizer.enable_truncation(length, strategy="longest_first")
        except BaseException:
            return None
    found = tokenizer.encode(*texts)
    return [found.ids, found.type_ids]


def main() -> None:
    cases = []
    for parts in tokenizers():
        tokenizer = Tokenizer.from_str(json.dumps(parts))
        results = [
            [texts, length, encoded(tokenizer, length, texts)] for texts in TEXTS for length in (None, *LENGTHS)
        ]
        cases.append({"json": parts, "results": results})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (FOLDER / "pairs.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
