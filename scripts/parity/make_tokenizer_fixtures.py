#!/usr/bin/env python3
"""Write down what the Rust library makes of each part of a tokenizer.json, alone and in whole tokenizers.

    python scripts/parity/make_tokenizer_fixtures.py            # writes src/formats/fixtures/tokenizer/parts.json
    python scripts/parity/make_tokenizer_fixtures.py FILE SEED  # more tokenizers and 500 texts, for test/golden/tokenizers.test.ts

Reference: the `tokenizers` wheel. Versions: see requirements.txt.
"""

from __future__ import annotations

import json
import random
import sys
import unicodedata
from pathlib import Path

from tokenizers import Tokenizer

FOLDER = Path(__file__).resolve().parents[2] / "src" / "formats" / "fixtures" / "tokenizer"

TEXTS = [
    "",
    " ",
    "a",
    "in ١٩٤٥ and ١٩٩٩",
    "x   \ufeffy",
    "\ufeffhello, world!",
    "25   ² metres ٣½Ⅷ",
    "naïve café Ünïcode_1 ok",
    "日本 語 𠀀𠀁 家 あいう カタカナー",
    "hello world, it's DAY! Day day days x-day",
    "a\x00b\x01c\x1fd\x7fe\x85f\x0bg\x0ch",
    "a§b a$b a\u2026b \u00bfq? $& $1 $$",
    "the fox  ran ",
    "  two  leading and trailing  ",
    "the 12 of 3, 1234567",
    "ok... a-b %§!",
    "ΑΣ ΟΔΟΣ ΣΑΣ. İstanbul STRASSE straße ſ ﬁ",
    "e\u0301 a\u0308\u0323 ñ \u1e9b\u0323 \u212b Å ㋿ \U0001d15e",
    "👋🏽 👩‍👩‍👧 🇩🇪 🤗 🥹",
    "\u200bzero\u200dwidth\u2028line\u2029para\u3000wide\u00a0nbsp",
    "tab\tnew\nline\r\nend\n\n\n",
    "<s>the</s> <mask> a<mask>b <x> <xy> <xyz> [PAD]",
    "I'll we've 'S DON'T y'all",
    "▁marker▁ ▁▁ ▁",
    "Hello\u0301\u0323 wörld ﷺ ｆｕｌｌ ㍿ ①②",
    "한국어 각 각",
    "ไทย देवनागरी क्षि العربية עברית",
    "aaaa abab ababab hello hellohello",
    # What is younger than the Unicode of some crates, and known to all engines of JavaScript.
    "\u08d3\u07fd \u0c77x \U0001e2ec\U0001f971 \u0301\u07fd\u0323",
    "<0x41> <0xE5> <0x+5>",
    "don 't do not n't 've 're .",
]

WORDS = "hello world the fox ran it day of in and a b c x y ab abab hell he ll lo wor ld 's 't".split()


def byte_alphabet() -> list[str]:
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, extra = {}, 0
    for byte in range(256):
        if byte in kept:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return [table[byte] for byte in range(256)]


def merges_of(words: list[str], alphabet: list[str], prefix: str = "", suffix: str = "") -> tuple[dict, list]:
    """A vocabulary that spells `words`, and the merges that lead there, from left to right."""
    tokens = dict.fromkeys(alphabet)
    merges = dict.fromkeys([])
    for word in words:
        symbols = [(prefix if i else "") + c + (suffix if i == len(word) - 1 else "") for i, c in enumerate(word)]
        tokens.update(dict.fromkeys(symbols))
        made = symbols[0]
        for symbol in symbols[1:]:
            merges[(made, symbol)] = None
            made += symbol[len(prefix):]
            tokens[made] = None
    return {token: i for i, token in enumerate(tokens)}, [list(pair) for pair in merges]


LETTERS = [chr(c) for c in range(0x20, 0x7F)]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def bpe(words=WORDS, alphabet=LETTERS, extra=(), **settings) -> dict:
    prefix, suffix = settings.get("continuing_subword_prefix") or "", settings.get("end_of_word_suffix") or ""
    vocab, merges = merges_of(list(words), [*extra, *alphabet], prefix, suffix)
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            **settings, "vocab": vocab, "merges": merges}


def byte_bpe(**settings) -> dict:
    return bpe(words=[*WORDS, *[f"Ġ{word}" for word in WORDS], "ĠĠ", "Ã©"], alphabet=byte_alphabet(),
               extra=["<|end|>"], **settings)


def sentence_bpe(**settings) -> dict:
    words = [*WORDS, *[f"▁{word}" for word in WORDS], "▁▁"]
    return bpe(words=words, extra=["<unk>", "<s>", "</s>", *BYTES, "▁", "é", "家"], unk_token="<unk>",
               fuse_unk=True, byte_fallback=True, **settings)


def unigram(**settings) -> dict:
    pieces = ["<unk>", "<s>", "</s>", "▁", *LETTERS[1:], *[f"▁{w}" for w in WORDS], *WORDS, "家", "日本", "é"]
    rng = random.Random(7)
    vocab = [[piece, -round(rng.uniform(1, 4) + 9 / len(piece), 3)] for piece in dict.fromkeys(pieces)]
    return {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": False, **settings}


def word_piece(**settings) -> dict:
    tokens = ["[UNK]", "[CLS]", "[SEP]", *LETTERS[1:], *[f"##{c}" for c in LETTERS[1:]], *WORDS, "##day", "##s", "家", "é"]
    return {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 12, **settings,
            "vocab": {token: i for i, token in enumerate(dict.fromkeys(tokens))}}


def word_level(**settings) -> dict:
    tokens = ["[PAD]", "hello", "world", ",", "it", "day", "<unk>", "days"]
    return {"type": "WordLevel", "unk_token": "<unk>", **settings, "vocab": {t: i for i, t in enumerate(tokens)}}


def split(pattern: dict, behavior: str = "Isolated", invert: bool = False) -> dict:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = GPT4.replace("{1,3}", "")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
REGEXES = [
    GPT4, QWEN, O200K, DEEPSEEK,
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"\d+", r"\w+", r"\W", r"\s", r"\S+", r"\bday\b", r"\B", r"[\w-]+", r"[^\w\s]", r"\p{N}{1,3}+", r"a++b", r"(?>a|ab)c",
    r"\Aa", r"y\z", r"\Z", r"^", r"$", r"", r"a*", r"(?i)DAY", r"(?i:hello)|x", r"(?<n>a)\k<n>", r"(.)\1", r"[一-龥぀-ゟ゠-ヿ]+",
    r"\p{Han}+", r"\p{Script=Greek}", r"\p{P}", r"\p{^L}", r"[[:alpha:]]+", r"[[:punct:]]", r"[[:space:]]+", r"\h+",
    r"(?m:.)", r".", r"(?x) a b # c", r"[a-z&&[^aeiou]]+", r"\u00e9|\x{1F44B}", r"(?=[A-Z])", r"(?<=\s)\S", r"(?<!o)r",
    r"\R", r" ?\p{L}+?", r"[^\n]+|\n", r"(a|b|ab)+c?", r"\p{L}\p{M}*", r"\r?\n", r"[\p{L}\p{N}]+|[^\p{L}\p{N}]",
    r"\p{Lu}\p{Ll}+", r"(?s:a.b)", r"[]a]", r"a{,2}", r"{", r"\t", r"\$", r"\p{Emoji}", r"\K", r"\G", r"\X", r"[\x00-\x1f]",
]
NORMALIZERS = [
    *[{"type": "BertNormalizer", "clean_text": c, "handle_chinese_chars": h, "strip_accents": s, "lowercase": w}
      for c in (True, False) for h in (True, False) for s in (True, None, False) for w in (True, False)],
    *[{"type": "Strip", "strip_left": left, "strip_right": right} for left in (True, False) for right in (True, False)],
    *[{"type": name} for name in ("StripAccents", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Nmt", "ByteLevel")],
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Prepend", "prepend": ""},
    *[{"type": "Replace", "pattern": {"String": pattern}, "content": content}
      for pattern, content in [(" ", "▁"), ("a", "$&$1$$"), ("", "-"), ("$", "dollar"), (".", "!"), ("ab", ""), ("\n", "\\n")]],
    *[{"type": "Replace", "pattern": {"Regex": pattern}, "content": "$0_"} for pattern in REGEXES],
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    {"type": "Sequence", "normalizers": []},
    {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}]},
    {"type": "Sequence", "normalizers": [{"type": "Nmt"}, {"type": "NFKC"},
                                         {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
    {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
                                         {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
]
BYTE_LEVELS = [{"type": "ByteLevel", "add_prefix_space": p, "trim_offsets": True, "use_regex": r}
               for p in (True, False) for r in (True, False)]
METASPACES = [{"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": parts}
              for scheme in ("always", "first", "never") for parts in (True, False)]
DIGITS = [{"type": "Digits", "individual_digits": individual} for individual in (True, False)]
PRE_TOKENIZERS = [
    *[{"type": name} for name in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "UnicodeScripts")],
    *BYTE_LEVELS, *METASPACES, *DIGITS,
    {"type": "Metaspace", "replacement": "_", "add_prefix_space": True},
    {"type": "CharDelimiterSplit", "delimiter": " "},
    {"type": "CharDelimiterSplit", "delimiter": "語"},
    {"type": "FixedLength", "length": 3},
    {"type": "FixedLength"},
    {"type": "Punctuation"},
    *[{"type": "Punctuation", "behavior": behavior} for behavior in BEHAVIORS],
    *[split(pattern, behavior, invert) for behavior in BEHAVIORS for invert in (False, True)
      for pattern in ({"String": " "}, {"String": "ab"}, {"Regex": r"\d+"}, {"Regex": r"a*"}, {"Regex": r"\s|(?=[A-Z])"})],
    *[split({"Regex": regex}) for regex in REGEXES],
    split({"String": ""}), split({"String": "$"}), split({"String": "."}, "Removed"), split({"String": "-"}),
    {"type": "Sequence", "pretokenizers": []},
    {"type": "Sequence", "pretokenizers": [DIGITS[0], BYTE_LEVELS[2]]},
    {"type": "Sequence", "pretokenizers": [split({"Regex": GPT4}), BYTE_LEVELS[3]]},
    {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACES[0]]},
    {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACES[2]]},
    {"type": "Sequence", "pretokenizers": [{"type": "Punctuation"}, METASPACES[3], DIGITS[1]]},
    {"type": "Sequence", "pretokenizers": [{"type": "UnicodeScripts"}, {"type": "Whitespace"}]},
]


def strip(content: str, start: int, stop: int) -> dict:
    return {"type": "Strip", "content": content, "start": start, "stop": stop}


def replace(pattern: dict, content: str) -> dict:
    return {"type": "Replace", "pattern": pattern, "content": content}


LLAMA_DECODERS = [replace({"String": "▁"}, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
DECODERS = [
    *BYTE_LEVELS[:1], *METASPACES,
    {"type": "BPEDecoder", "suffix": "</w>"}, {"type": "BPEDecoder", "suffix": ""},
    {"type": "ByteFallback"}, {"type": "Fuse"},
    *[{"type": "WordPiece", "prefix": "##", "cleanup": cleanup} for cleanup in (True, False)],
    *[{"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": cleanup} for cleanup in (True, False)],
    strip(" ", 1, 0), strip("a", 2, 1), strip("家", 1, 1),
    replace({"String": "▁"}, " "), replace({"Regex": "a+|^h"}, "$&"), replace({"String": ""}, "-"),
    {"type": "Sequence", "decoders": LLAMA_DECODERS},
    {"type": "Sequence", "decoders": [*LLAMA_DECODERS, strip(" ", 1, 0)]},
    {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, METASPACES[0]]},
]
TOKENS = ["hello", "▁hello", "▁", "▁▁a▁", "a", "aa", "<pad>", "|", "##day", "##", " .", "'s", " n't", "lo</w>", "</w>", "家", "Ġ", "Ãł",
          "Ã", "©", "<0xE5>", "<0xAE>", "<0xB6>", "<0x0A>", "<0xEF>", "<0xBB>", "<0xBF>", "<0xf0>", "<0x+5>", "<0xé>", "é", " ", "",
          "\ufeff", "\ufffd", "do not", "haa", "x y"]


def added(content: str, **settings) -> dict:
    return {"id": 0, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": False, **settings}


ADDED = {
    "plain": [added("<s>", special=True), added("</s>", special=True), added("<|end|>", special=True)],
    "overlapping": [added("<x"), added("<xy"), added("<xyz>"), added("yz>"), added("ab"), added("abab"), added("b")],
    "single words": [added("day", single_word=True), added("家", single_word=True), added("ran", single_word=True, lstrip=True)],
    "stripping": [added("<mask>", lstrip=True, special=True), added("</s>", rstrip=True), added("the", lstrip=True, rstrip=True),
                  added(" "), added("and", lstrip=True, rstrip=True, single_word=True)],
    "normalized": [added("Day", normalized=True), added("▁▁", normalized=True), added("É", normalized=True, special=True),
                   added("hello", normalized=True, lstrip=True), added("WORLD", special=True)],
}
PROCESSORS = [
    None,
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                                              {"SpecialToken": {"id": "</s>", "type_id": 0}}],
     "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
     "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [2, 1], "tokens": ["</s>", "<s>"]}}},
    {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
    {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": True, "add_prefix_space": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
]
PROCESSORS += [{"type": "Sequence", "processors": [PROCESSORS[4], PROCESSORS[1]]}]


def whole(model, normalizer=None, pre_tokenizer=None, decoder=None, post_processor=None, added_tokens=()) -> dict:
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(added_tokens),
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
            "decoder": decoder, "model": model}


def whole_tokenizers() -> dict[str, dict]:
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, spaces]}
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    bert_rest = dict(pre_tokenizer={"type": "BertPreTokenizer"}, decoder=DECODERS[10], post_processor=PROCESSORS[2])
    digits = {"type": "Sequence", "pretokenizers": [DIGITS[0], BYTE_LEVELS[2]]}
    byte_decoder = BYTE_LEVELS[0]
    llama = {"type": "Sequence", "decoders": [*LLAMA_DECODERS, strip(" ", 1, 0)]}
    clip = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                                                {"type": "Lowercase"}]}
    found = {
        "smollm2": whole(byte_bpe(), None, digits, byte_decoder, None, ADDED["plain"]),
        "gpt2": whole(byte_bpe(), None, BYTE_LEVELS[2], byte_decoder, PROCESSORS[4], ADDED["stripping"]),
        "llama3": whole(byte_bpe(ignore_merges=True), None,
                        {"type": "Sequence", "pretokenizers": [split({"Regex": GPT4}), BYTE_LEVELS[3]]}, byte_decoder, PROCESSORS[5],
                        ADDED["plain"]),
        "qwen2": whole(byte_bpe(), {"type": "NFC"},
                       {"type": "Sequence", "pretokenizers": [split({"Regex": QWEN}), BYTE_LEVELS[3]]}, byte_decoder, None,
                       ADDED["overlapping"]),
        "llama2": whole(sentence_bpe(), prepend, None, llama, PROCESSORS[1], ADDED["plain"]),
        "mistral": whole(sentence_bpe(), None, METASPACES[3], llama, PROCESSORS[1], ADDED["stripping"]),
        "gemma": whole(sentence_bpe(), spaces, split({"String": " "}, "MergedWithPrevious"),
                       {"type": "Sequence", "decoders": LLAMA_DECODERS}, PROCESSORS[1], ADDED["plain"]),
        "t5": whole(unigram(), None, METASPACES[0], METASPACES[0], None, ADDED["normalized"]),
        "xlm-r": whole(unigram(), {"type": "NFKC"}, {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACES[0]]},
                       METASPACES[0], PROCESSORS[3], ADDED["stripping"]),
        "bert": whole(word_piece(), bert, **bert_rest, added_tokens=ADDED["plain"]),
        "bert, cased": whole(word_piece(), {**bert, "lowercase": False}, **bert_rest, added_tokens=ADDED["single words"]),
        "clip": whole(bpe(unk_token="<|end|>", extra=["<|end|>"], end_of_word_suffix="</w>", alphabet=byte_alphabet()), clip,
                      {"type": "Sequence", "pretokenizers": [
                          split({"Regex": r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"},
                                "Removed", True), BYTE_LEVELS[3]]},
                      DECODERS[7], None, ADDED["plain"]),
        "words": whole(word_level(), None, {"type": "Whitespace"}, None, None, ADDED["plain"]),
        "words in a Sequence": whole(word_level(), {"type": "Lowercase"}, {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Punctuation"}]}, DECODERS[10], None, ADDED["normalized"]),
        "ctc": whole(word_level(), None, {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": False},
                     DECODERS[12], None, ()),
        "byte normalizer": whole(byte_bpe(), {"type": "ByteLevel"}, None, byte_decoder, None, ADDED["normalized"]),
        "legacy merges": whole({**byte_bpe(), "merges": ["#version: 0.2", *[" ".join(m) for m in byte_bpe()["merges"]]]}, None,
                               BYTE_LEVELS[0], byte_decoder),
        "no unknown token": whole(bpe(), None, {"type": "Whitespace"}, None, None, ADDED["plain"]),
        "unknown, fused": whole(bpe(unk_token="<unk>", fuse_unk=True, extra=["<unk>"]), None, {"type": "WhitespaceSplit"}, {"type": "Fuse"}),
        "unknown, single": whole(bpe(unk_token="<unk>", extra=["<unk>"]), None, {"type": "WhitespaceSplit"}, {"type": "Fuse"}),
        "some bytes": whole(bpe(unk_token="<unk>", byte_fallback=True, extra=["<unk>", *BYTES[:0xE0]]), None, None,
                            {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}),
        "continuing prefix": whole(bpe(continuing_subword_prefix="##", unk_token="<unk>", extra=["<unk>"]), None,
                                   {"type": "Whitespace"}, DECODERS[10]),
        "prefix, suffix, bytes": whole(bpe(continuing_subword_prefix="@", end_of_word_suffix="!", unk_token="<unk>", byte_fallback=True,
                                           extra=["<unk>", *BYTES]), None, {"type": "WhitespaceSplit"}, {"type": "Fuse"}),
        "unigram, bytes": whole({**unigram(byte_fallback=True), "vocab": [*unigram()["vocab"], *[[b, -20.0] for b in BYTES]]},
                                spaces, None, {"type": "Sequence", "decoders": LLAMA_DECODERS}),
        "unigram, no unknown": whole({**unigram(unk_id=None)}, None, METASPACES[2], METASPACES[2]),
        "first": whole(unigram(), {"type": "Strip", "strip_left": True, "strip_right": False},
                       {"type": "Sequence", "pretokenizers": [{"type": "Punctuation"}, METASPACES[2]]}, METASPACES[2], None, ADDED["plain"]),
        "first, replaced": whole(unigram(), replace({"Regex": r"^\s+|^he"}, "x y"), METASPACES[2], METASPACES[4], None, ADDED["plain"]),
        "first, prepended": whole(unigram(), {"type": "Prepend", "prepend": "a b"}, METASPACES[2], METASPACES[4], None, ADDED["stripping"]),
        "long words": whole(word_piece(max_input_chars_per_word=3), None, {"type": "WhitespaceSplit"}, DECODERS[9]),
        "no decoder": whole(byte_bpe(), None, BYTE_LEVELS[1], None, None, ADDED["plain"]),
    }
    for name, tokens in ADDED.items():
        found[f"added tokens, {name}"] = whole(byte_bpe(), {"type": "Lowercase"}, BYTE_LEVELS[3], byte_decoder, None, tokens)
    return found


# Over what comes from no character of the text, later parts of the library break or read a text twice.
EMPTY_MATCHES = ["", "^", "$", "a*", r"\B", r"\Z", "(?=[A-Z])"]


def puts_in(normalizer: dict) -> bool:
    pattern = normalizer.get("pattern", {})
    return normalizer.get("prepend") == "" or pattern.get("Regex", pattern.get("String", "x")) in EMPTY_MATCHES


MIXABLE = [normalizer for normalizer in NORMALIZERS if not puts_in(normalizer)]


def more_tokenizers(rng: random.Random, count: int) -> dict[str, dict]:
    """Parts put together at random."""
    models = [byte_bpe, sentence_bpe, unigram, word_piece, word_level, bpe]

    def some(parts, key, kind):
        chosen = [rng.choice(parts) for _ in range(rng.randrange(1, 4))]
        return rng.choice([None, chosen[0], {"type": "Sequence", key: chosen}]) if kind else chosen[0]

    found = {}
    for i in range(count):
        tokens = [token for name in rng.sample(list(ADDED), rng.randrange(3)) for token in ADDED[name]]
        found[f"random {i}"] = whole(rng.choice(models)(), some(MIXABLE, "normalizers", True),
                                     some(PRE_TOKENIZERS, "pretokenizers", True), some(DECODERS, "decoders", True),
                                     rng.choice(PROCESSORS), tokens)
    return found


ALPHABETS = ["abelo hwrd", "  \t\n\r", "0123٤٥²½", "éàüñß\u0301\u0323", "日本語家𠀀ー", "👋🏽👩‍🇩🇪", "<>xyz/s|▁'.,-$",
             "\ufeff\u200b\u00a0\u3000\u0085\x00\x0b", "ΑΣσςΟ", "İıſK", "ﬁ㍿ﷺ각ᄀ", "aAbBDdYy "]


def random_texts(rng: random.Random, count: int) -> list[str]:
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(rng.randrange(1, 9)):
            if rng.random() < 0.25:
                parts.append(rng.choice(WORDS + ["<s>", "<mask>", "Day", "the", "</s>", "<xyz>"]))
            elif rng.random() < 0.05:
                c = chr(rng.choice([rng.randrange(0x250), rng.randrange(0xD800), rng.randrange(0xE000, 0x20000)]))
                # Classes of characters that one side does not know yet differ.
                parts.append(c if unicodedata.category(c) != "Cn" else "?")
            else:
                alphabet = rng.choice(ALPHABETS)
                parts.append("".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 6))))
        texts.append("".join(parts))
    return texts


def attempt(work, panic=None):
    """What `work` gives; None where the library refuses, `panic` where it breaks."""
    try:
        return work()
    except BaseException as error:  # noqa: BLE001  (a panic is no Exception)
        if isinstance(error, KeyboardInterrupt):
            raise
        return None if isinstance(error, Exception) else panic


def load(parts: dict) -> Tokenizer | str | None:
    return attempt(lambda: Tokenizer.from_str(json.dumps(parts)), "panic")


def alone(key: str, part: dict) -> Tokenizer | None:
    tokenizer = load({**whole(word_level()), key: part})
    return None if tokenizer == "panic" else tokenizer


def main() -> None:
    live = len(sys.argv) > 1
    out = Path(sys.argv[1]) if live else FOLDER / "parts.json"
    rng = random.Random(int(sys.argv[2]) if live else 0)
    texts = TEXTS + (random_texts(rng, 500 - len(TEXTS)) if live else [])
    lists = [[rng.choice(TOKENS) for _ in range(rng.randrange(1, 8))] for _ in range(200 if live else 40)]
    whole_ones = {**whole_tokenizers(), **(more_tokenizers(rng, 150) if live else {})}
    data = {"texts": texts, "tokens": lists, "normalizers": [], "preTokenizers": [], "decoders": [], "tokenizers": []}
    for part in NORMALIZERS:
        tokenizer = alone("normalizer", part)
        data["normalizers"].append({"json": part, "results": tokenizer and [
            attempt(lambda t=t: tokenizer.normalizer.normalize_str(t)) for t in texts]})
    for part in PRE_TOKENIZERS:
        tokenizer = alone("pre_tokenizer", part)
        data["preTokenizers"].append({"json": part, "results": tokenizer and [
            attempt(lambda t=t: [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(t)]) for t in texts]})
    for part in DECODERS:
        tokenizer = alone("decoder", part)
        data["decoders"].append({"json": part, "results": tokenizer and [
            attempt(lambda t=t: tokenizer.decoder.decode(t)) for t in lists]})
    for name, parts in whole_ones.items():
        tokenizer = load(parts)
        if tokenizer == "panic":
            continue
        if tokenizer is None:
            data["tokenizers"].append({"name": name, "json": parts, "results": None})
            continue
        size = tokenizer.get_vocab_size()
        ids = [attempt(lambda t=t: tokenizer.encode(t, add_special_tokens=False).ids, "panic") for t in texts]
        other = [[rng.randrange(size + 2) for _ in range(rng.randrange(1, 9))] for _ in range(60 if live else 12)]
        data["tokenizers"].append({
            "name": name,
            "json": parts,
            "results": ids,
            "special": [attempt(lambda t=t: tokenizer.encode(t).ids) for t in texts[:5]],
            "decoded": [i if i == "panic" else i and attempt(lambda i=i: tokenizer.decode(i, skip_special_tokens=False)) for i in ids],
            "skipped": [i if i == "panic" else i and attempt(lambda i=i: tokenizer.decode(i, skip_special_tokens=True)) for i in ids],
            "others": [[i, attempt(lambda i=i: tokenizer.decode(i, skip_special_tokens=False))] for i in other],
        })
    # What stays as it was is 0.
    for case in data["normalizers"]:
        case["results"] = case["results"] and [0 if r == t else r for r, t in zip(case["results"], texts)]
    for case in data["preTokenizers"]:
        case["results"] = case["results"] and [0 if r == [t] else r for r, t in zip(case["results"], texts)]
    for case in data["tokenizers"]:
        for key in ("decoded", "skipped"):
            if case["results"] is not None:
                base = texts if key == "decoded" else case["decoded_full"]
                case[f"{key}_full"] = case[key]
                case[key] = [0 if value == same else value for value, same in zip(case[key], base)]
        for key in ("decoded_full", "skipped_full"):
            case.pop(key, None)
    out.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{out}: {out.stat().st_size} bytes, {len(texts)} texts, "
          f"{', '.join(f'{len(data[k])} {k}' for k in ('normalizers', 'preTokenizers', 'decoders', 'tokenizers'))}")


if __name__ == "__main__":
    main()
