#!/usr/bin/env python3
"""Train two tokenizers of a few KB and write down what the Rust library makes of some texts.

    python scripts/parity/tiny_tokenizers.py      # writes src/formats/fixtures/tokenizer/

`bytelevel` is built as those of SmolLM2, Llama 3 and Qwen are (byte-level BPE, ChatML's special tokens, no BOS),
`sentencepiece` as those of Llama 2 and Mistral (BPE with byte fallback, a blank put before each text, a BOS).
Training is deterministic. Versions: see requirements.txt.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

FOLDER = Path(__file__).resolve().parents[2] / "src" / "formats" / "fixtures" / "tokenizer"

TEXT = """The quick brown fox jumps over the lazy dog. The dog sleeps; the fox does not.
A river runs through the town, and the town runs along the river: there is water and there are boats.
What is the name of the river? The name of the river is not known to the people of the town.
In 1984 there were 12 boats, in 1996 there were 250. name, food, area, price, rating, family friendly.
"""

SAMPLES = [
    "",
    " ",
    "Hello",
    " Hello world",
    "The river runs.",
    "there  are\n\nblanks \t here ",
    "12345 boats in 1984",
    "Grüße, 家 👋🏽 \u2028 é e\u0301",
    "<|im_start|>user\nWhat is it?<|im_end|>\n",
    "a<|im_end|>b <|im_end|> c",
    "<s>the</s> town",
    "don't we'll I'VE",
    "\ufeffbom",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
]


def bytelevel() -> tuple[Tokenizer, dict, dict]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False, special=False)])
    template = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
        "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": None,
        "chat_template": template,
    }
    return tokenizer, config, {"eos_token_id": [tokenizer.token_to_id("<|endoftext|>")]}


def sentencepiece() -> tuple[Tokenizer, dict, dict]:
    special = ["<unk>", "<s>", "</s>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.train_from_iterator(
        [TEXT.replace("\n", " ")],
        trainers.BpeTrainer(vocab_size=110, special_tokens=special, show_progress=False, max_token_length=6),
    )
    state = json.loads(trained.to_str())["model"]
    # Byte tokens stand behind the special ones, as in Llama 2.
    names = special + [f"<0x{byte:02X}>" for byte in range(256)]
    names += [token for token in sorted(state["vocab"], key=state["vocab"].get) if token not in special]
    vocab = {name: i for i, name in enumerate(names)}
    merges = [tuple(merge) for merge in state["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = trained.normalizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocab["<s>"])]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": {"content": "<s>", "special": True},
        "eos_token": {"content": "</s>", "special": True},
        "unk_token": {"content": "<unk>", "special": True},
    }
    return tokenizer, config, {"bos_token_id": 1, "eos_token_id": 2}


def write(path: Path, value: object, **options) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(value, ensure_ascii=True, **options) + "\n", encoding="utf-8")
    os.replace(partial, path)


def main() -> None:
    for make in (bytelevel, sentencepiece):
        tokenizer, config, generation_config = make()
        folder = FOLDER / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "tokenizer.json", json.loads(tokenizer.to_str()), separators=(",", ":"))
        write(folder / "tokenizer_config.json", config, indent=2)
        write(folder / "generation_config.json", generation_config, indent=2)
        expected = []
        for text in SAMPLES:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            expected.append(
                {
                    "text": text,
                    "ids": ids,
                    "with_special": tokenizer.encode(text).ids,
                    "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                    "decoded_skip": tokenizer.decode(ids, skip_special_tokens=True),
                }
            )
        made_by = f"scripts/parity/tiny_tokenizers.py, tokenizers {tokenizers.__version__}"
        write(folder / "expected.json", {"made_by": made_by, "samples": expected}, indent=0)
        print(f"{folder}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
