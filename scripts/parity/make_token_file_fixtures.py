#!/usr/bin/env python3
"""Write down what AutoTokenizer makes of tokens that stand only in the files beside tokenizer.json.

    python scripts/parity/make_token_file_fixtures.py   # writes src/formats/fixtures/tokenizer/tokenFiles.json

Reference: transformers' AutoTokenizer over the two tokenizers of tiny_tokenizers.py. Versions: see requirements.txt.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

FOLDER = Path(__file__).resolve().parents[2] / "src" / "formats" / "fixtures" / "tokenizer"

TEXTS = [
    "a <tool> b<|extra|> c  <mask> d",
    "the<|end|> Tool <TOOL> <tool>s [PAD] <pad>",
    "<s>the</s> <|im_end|>river<image> <think>",
    "ａ <ｔｏｏｌ>",
]


def token(content: str, typed: bool = True, **settings) -> dict:
    of = {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, **settings}
    return {"__type": "AddedToken", **of} if typed else of


PLAIN = {"tokenizer_class": "PreTrainedTokenizerFast"}
CASES: dict[str, tuple[str, dict[str, dict]]] = {}


def case(name: str, base: str = "bytelevel", **files: dict) -> None:
    CASES[name] = (base, {f"{file}.json": of for file, of in files.items()})


def config(**keys) -> dict:
    return {**PLAIN, **keys}


case("nothing beside", tokenizer_config=config())
case("a pad token that is new", tokenizer_config=config(eos_token="<|im_end|>", pad_token="[PAD]"))
case("all of the seven", tokenizer_config=config(bos_token="<s>", eos_token="</s>", unk_token="<unk>", sep_token="<sep>", pad_token="<pad>",
                                                 cls_token="<cls>", mask_token=token("<mask>", lstrip=True)))
case("additional_special_tokens", tokenizer_config=config(additional_special_tokens=["<tool>", "<|extra|>"]))
case("additional ones as objects", tokenizer_config=config(additional_special_tokens=[token("<tool>", rstrip=True), "<|im_end|>"]))
case("extra_special_tokens, a list", tokenizer_config=config(extra_special_tokens=["<tool>"], additional_special_tokens=["<|extra|>"]))
case("extra_special_tokens, by name", tokenizer_config=config(extra_special_tokens={"image_token": "<image>", "tool": "<tool>"}))
case("a name of its own", tokenizer_config=config(image_token="<image>", pad_token="<pad>"))
decoder = {"361": token("<tool>", False, special=True), "0": token("<|endoftext|>", False, special=True),
           "363": token("<|extra|>", False, lstrip=True, special=False), "362": token("<image>", False, normalized=True, special=False)}
case("added_tokens_decoder", tokenizer_config=config(added_tokens_decoder=decoder, eos_token="<|im_end|>", pad_token="<tool>"))
case("added_tokens_decoder, other ways to find", tokenizer_config=config(
    added_tokens_decoder={"2": token("<|im_end|>", False, lstrip=True, rstrip=True, special=False), "360": token("<think>", False, special=True)}))
case("added_tokens_decoder, made special by its name", tokenizer_config=config(
    added_tokens_decoder={"361": token("<tool>", False, rstrip=True, special=False)}, sep_token="<tool>"))
case("added_tokens_decoder, empty", tokenizer_config=config(added_tokens_decoder={}),
     special_tokens_map={"eos_token": "<|end|>"}, added_tokens={"<tool>": 361})
case("added_tokens.json", tokenizer_config=config(eos_token="<|im_end|>"), added_tokens={"<tool>": 362, "<|extra|>": 361})
case("added_tokens.json, one of them special", tokenizer_config=config(pad_token="<tool>"), added_tokens={"<tool>": 361, "<image>": 362})
case("special_tokens_map.json", tokenizer_config=config(eos_token="<|im_end|>"),
     special_tokens_map={"eos_token": token("<|end|>", False, rstrip=True), "pad_token": "[PAD]", "additional_special_tokens": ["<tool>"]})
case("special_tokens_map.json, a list", tokenizer_config=config(extra_special_tokens=["<image>"]),
     special_tokens_map={"extra_special_tokens": ["<tool>", token("<|extra|>", False)]})
case("special_tokens_map.json beside added_tokens_decoder", tokenizer_config=config(
    eos_token="<|im_end|>", added_tokens_decoder={"361": token("<tool>", False, special=True)}), special_tokens_map={"eos_token": "<|end|>"})
case("both lists", tokenizer_config=config(additional_special_tokens=["<tool>"]),
     special_tokens_map={"additional_special_tokens": ["<|extra|>"], "mask_token": token("<mask>", False, lstrip=True)},
     added_tokens={"<image>": 370})
case("SentencePiece, normalized", "sentencepiece", tokenizer_config=config(
    bos_token="<s>", eos_token="</s>", added_tokens_decoder={"366": token("<tool>", False, normalized=True, special=False),
                                                            "367": token("the", False, normalized=True, special=False, single_word=True)}))
case("SentencePiece, by text", "sentencepiece", tokenizer_config=config(bos_token="<s>", eos_token="<|end|>", pad_token="<pad>"))
case("no tokenizer_config.json", special_tokens_map={"eos_token": "<|end|>", "pad_token": "<pad>"}, added_tokens={"<tool>": 361})

case("names of tokens that are there", tokenizer_config=config(pad_token="<think>", sep_token="town", added_tokens_decoder={}))
case("names of words", "sentencepiece", tokenizer_config=config(pad_token="the", sep_token=token("river", lstrip=True, special=False)))

NAMES = ["bos_token", "eos_token", "pad_token"]


def main() -> None:
    results = []
    for name, (base, files) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(FOLDER / base / "tokenizer.json", folder)
            Path(folder, "config.json").write_text('{"model_type": "llama"}')
            for file, of in files.items():
                Path(folder, file).write_text(json.dumps(of))
            kind = AutoTokenizer
            if "tokenizer_config.json" not in files:
                from transformers import PreTrainedTokenizerFast as kind
            tokenizer = kind.from_pretrained(folder)
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
        results.append({
            "name": name, "base": base, "files": files,
            "named": {key: getattr(tokenizer, f"{key}_id") for key in NAMES},
            "size": len(tokenizer),
            "ids": ids,
            "decoded": [tokenizer.decode(of, skip_special_tokens=True) for of in ids],
        })
    out = FOLDER / "tokenFiles.json"
    out.write_text(json.dumps({"texts": TEXTS, "cases": results}, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{out}: {len(results)} cases, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
