#!/usr/bin/env python3
"""Write down how the crates behind the `tokenizers` wheel class characters.

    python scripts/parity/make_tokenizer_tables.py      # writes src/formats/tokenizer/characterTables.ts

The crates have Unicode of several years, from 2016 on, and no engine of JavaScript has those. So each character is asked of
the wheel itself, once. Needs `node` (its Unicode has to be at least as new as the crates'). Versions: see requirements.txt.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tokenizers import normalizers, pre_tokenizers

OUT = Path(__file__).resolve().parents[2] / "src" / "formats" / "tokenizer" / "characterTables.ts"

CHARACTERS = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]

# What JavaScript composes, decomposes or orders, and how: one line of JSON for each character that does any of it.
NODE = """
const out = {};
for (let c = 1; c < 0x110000; c++) {
  if (c >= 0xd800 && c <= 0xdfff) continue;
  const s = String.fromCodePoint(c);
  const forms = ['NFC', 'NFD', 'NFKC', 'NFKD'].map((form) => s.normalize(form));
  const orders = ('\\u0345' + s).normalize('NFD') !== '\\u0345' + s || (s + '\\u0334').normalize('NFD') !== s + '\\u0334';
  const parts = [...forms[1]];
  const head = parts.slice(0, -1).join('').normalize('NFC');
  const pair = parts.length > 1 && [...head].length === 1 && (head + parts.at(-1)).normalize('NFC') === s;
  if (forms.some((form) => form !== s) || orders) out[s] = { forms, orders, pair: pair ? [head, parts.at(-1)] : null };
}
console.log(JSON.stringify(out));
"""


def ask(classes) -> list[str]:
    return [c for c in CHARACTERS if classes(c)]


def base36(n: int) -> str:
    text = ""
    while True:
        n, digit = divmod(n, 36)
        text = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + text
        if n == 0:
            return text


def ranges(classes: list[tuple[str, int | None]]) -> str:
    """Gap and length of each range, and its class where there are several, in base 36."""
    found: list[list[int | None]] = []
    for c, of in classes:
        if found and found[-1][1] == ord(c) - 1 and found[-1][2] == of:
            found[-1][1] = ord(c)
        else:
            found.append([ord(c), ord(c), of])
    parts, at = [], 0
    for start, end, of in found:
        parts.append(" ".join(base36(n) for n in (start - at, end - start, of) if n is not None))
        at = end
    return ",".join(parts)


def scripts() -> list[tuple[str, int]]:
    """The number of each character's script, by where UnicodeScripts splits; those of any script are left out."""
    split = pre_tokenizers.UnicodeScripts()
    first_of: list[str] = []  # A character of each script.

    def joins(a: str, b: str) -> bool:
        return len(split.pre_tokenize_str(a + b)) == 1

    found: list[tuple[str, int]] = []
    for c in CHARACTERS:
        if joins("a", c) and joins("\u0416", c):
            continue
        if found and joins(first_of[found[-1][1]], c):
            found.append((c, found[-1][1]))
            continue
        script = next((i for i, other in enumerate(first_of) if joins(other, c)), len(first_of))
        if script == len(first_of):
            first_of.append(c)
        found.append((c, script))
    return found


def isolated_by(pre_tokenizer) -> list[str]:
    return ask(lambda c: [text for text, _ in pre_tokenizer.pre_tokenize_str(f"a{c}a")] == ["a", "a"])


def inert_in_normalization() -> list[str]:
    """What JavaScript's Unicode normalizes and the crate's does not know."""
    known = json.loads(subprocess.run(["node", "-e", NODE], check=True, capture_output=True, text=True).stdout)
    forms = [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD()]
    nfc, nfd = forms[0], forms[1]
    inert = set()
    for c, of in known.items():
        if [form.normalize_str(c) for form in forms] != of["forms"]:
            inert.add(c)
        if of["orders"]:
            moved = nfd.normalize_str("\u0345" + c) != "\u0345" + c or nfd.normalize_str(c + "\u0334") != c + "\u0334"
            if not moved:
                inert.add(c)
        if of["pair"] and nfc.normalize_str("".join(of["pair"])) != c:
            inert.add(of["pair"][0])
    return sorted(inert)


def main() -> None:
    bert = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    clean = normalizers.BertNormalizer(**{**bert, "clean_text": True})
    accents = normalizers.BertNormalizer(**{**bert, "strip_accents": True})
    chinese = normalizers.BertNormalizer(**{**bert, "handle_chinese_chars": True})
    marks = normalizers.StripAccents()
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.Whitespace()
    tables = {
        "PUNCTUATION": ("Punctuation and BertPreTokenizer split at", isolated_by(pre_tokenizers.Punctuation("removed"))),
        "NUMERIC": ("Digits splits at", ask(lambda c: len(digits.pre_tokenize_str(f"a{c}a")) == 3)),
        "CONTROL": ("BertNormalizer cleans away", ask(lambda c: clean.normalize_str(c) == "")),
        "CHINESE": ("BertNormalizer puts blanks around", ask(lambda c: chinese.normalize_str(c) != c)),
        "NONSPACING": ("BertNormalizer takes for accents", ask(lambda c: accents.normalize_str(c) == "")),
        "MARK": ("StripAccents takes away", ask(lambda c: marks.normalize_str(c) == "")),
        "WORD": ("Whitespace and added tokens with single_word take for parts of words",
                 ask(lambda c: len(words.pre_tokenize_str(f"a{c}a")) == 1)),
        "INERT": ("NFC, NFD, NFKC and NFKD do not know, and JavaScript does", inert_in_normalization()),
    }
    lines = [
        "/**",
        " * How the crates behind the Rust library class characters. Made by scripts/parity/make_tokenizer_tables.py of the",
        " * `tokenizers` wheel; of each range the gap before it and its length less one, in base 36.",
        " */",
        "",
    ]
    for name, (what, characters) in tables.items():
        lines += [f"/** What {what}. */", f"export const {name} =", f"  '{ranges([(c, None) for c in characters])}';", ""]
    lines += ["/** The number of a character's script, the third of each range, by which UnicodeScripts splits. */"]
    lines += ["export const SCRIPTS =", f"  '{ranges(scripts())}';", ""]
    OUT.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
