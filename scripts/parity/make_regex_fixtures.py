#!/usr/bin/env python3
"""Makes src/formats/fixtures/python-regex.json: what Python's `re` makes of patterns, as PEFT uses it.

    .venv/bin/python scripts/parity/make_regex_fixtures.py

`names` are module names and a few texts that try characters. Each of `patterns` has either "error": true, or by name
    full     re.fullmatch, as for target_modules and exclude_modules: one digit a name
    match    spans of all groups of re.match, null where there is none
    search   the same of re.search
and, where Python takes it in its place, one digit or a layer a name of PEFT's own compositions:
    key      rank_pattern and alpha_pattern (get_pattern_key)
    saved    modules_to_save, which are no targets
    layer    layers_pattern
Patterns are those below and random ones of a fixed seed. Runs in some seconds.
"""

from __future__ import annotations

import json
import random
import re
import signal
import warnings
from pathlib import Path

OUT = Path(__file__).resolve().parents[2] / "src" / "formats" / "fixtures" / "python-regex.json"

NAMES = [
    "model.embed_tokens",
    "model.layers.0.self_attn.q_proj",
    "model.layers.11.self_attn.k_proj",
    "model.layers.1.mlp.down_proj",
    "model.norm",
    "lm_head",
    "q_proj",
    "Kelvin.s\n",
    "aab aabb\tabab-",
    "naïve ſ ٣ İıKk",
    "",
]

PATTERNS = r"""
q_proj
.*q_proj
.*\.q_proj
.*(q|k)_proj$
q_proj\Z
\Alm_head
\Amodel.*\Z
lm_head\z
model.layers.{,2}.self_attn.q_proj
model.layers.\d{,2}.self_attn.q_proj
a{,2}b
a{,}b
a{2,}b
a{1}b
a{2
a{}b
a{,b
a{x}b
a{3,2}
a{1,2}{3}
a**
a*?
a*+b
a++b
a?+a
a{1,2}+b
(?:ab|a)*+b
(?>a+)b
(?>aa|a)ab
(?>a|ab)(?:c|$)
[^]x]+
[]x]+
[^]]
[]
[
[a-]+
[-a]+
[a\-z]+
[a-z-9]+
[\d-x]
[a-\d]
[z-a]
[\]]+
[\b]
[\w.]+
[\W]+
[^\W\d_]+
[\s\S]*
[\Z]
[\A]
[\07]
[\8]
[[a]b]
[a&&b]+
(?P<x>q|k)_proj
(?P<x>a)(?P=x)b
(?P<x>a)(?P<x>b)
(?P=y)
(?P<1x>a)
(?P<x>
(?P>x)
(?<x>a)
(a)\1b
(a)?\1b
(a)?b\1
(a|b)*\1
(?:(a)|b)*\1
(?:(a)|(b))+\1\2
((a)|b)+
(a\1)
\1(a)
\2(a)(b)
(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)\10
\01\1
\0
\012
\141\141b
\400
\x61
\x6
\x{61}
\u0061a
\u{61}
\U00000061a
\U0001F600
\U00110000
\N{LATIN SMALL LETTER A}
\p{L}+
\e
\q
\_
\-
\.
\/
\ 
(?i)Q_PROJ
(?i).*Q_PROJ
(?i)KELVIN.S
(?i)[k]elvin
(?i)[^k]elvin
(?i)ſ
(?i)\w+ſ.*
(?i)i+
(?i).*I{2}.*
(?ia).*I{2}.*
(?i).*İ.*
(?i)(a)\1B
(?i:Q)_proj
(?-i:Q)_proj
(?i-s:Q.)proj
(?i-i:a)
(?i-:a)
(?-:a)
(?s:.*)
(?s).*
(?m)s$
(?m)^$
(?x) q _ proj # comment
(?x)a a [ ] b
(?x: a  b)
(?x)a\ b|a\#
(?x)a b (?-x: )
(?a)\w+
(?u)\w+
(?au)a
(?L)a
(?L:a)
(?a:\w+)
(?u:\w+)
(?au:a)
a(?i)b
(?i)(?s)a
(?#note)(?i)A
(?#note
(?#note)a
a(?#note)*b
(?i
(?
(?z)
(?z:a)
(?=q)q_proj
(?=(a))\1
.*(?=q_proj)q_proj
(?!lm)[a-z].*
.*(?!q)._proj
.*(?<=\.)q_proj
.*(?<!\.)head
(?<=a|b)b
(?<=ab|b)b
(?<=a*)b
(?<=a{2})b
(?<=(a))b
(?<=(a)\1)b
(a)(?<=\1)b
(a*)(?<=\1)b
(?<=
(?<a)
(?=a)*
(?=a)+b
^*
^q_proj$
^+
$*
\b*
(?:^)*q
\bq
\Bq_
.*\bself_attn\b.*
\B
\b
(a)?(?(1)b|lm_head)
(?P<x>a)?(?(x)ab|lm.*)
(?(1)a|b)
(a)(?(2)b)
(?(0)a)
(?(x)a)
(a)?(?(1)b|c|d)
(a)(?(1)a
(?(1)a|b)(c)
|a
a|
()
(|a)+
(a|)+b
(a*)*
(a*)+
(a*?)*?b
(?:a?)*?b
(?:a*?b?)*
(?:a|b?)*\t
(a?){3}
(a?){2,3}b
(?:){5}a
(?:)*
()*
(()|a)+b
*
+a
?
{
}
]
)
(
a)|(b
a)(b
.*layers\.[0-4]\.self_attn\.(q|v)_proj
.*\.(mlp\..*|0\.self_attn\.q_proj)
layers.1.mlp.down_proj
layers\.(0|11)\..*_proj
^model\.layers\.(\d+)\.
model\.layers\.(?P<n>1{2}|0)\.(?:self_attn)\.[qk]_proj
layers
h|layers
(h|layers)
la[a-z]*
^model.layers
layers$
embed.tokens
(.*)(q|k)_proj
.*?\.norm
norm|lm_head
\w+\.\w+
\d
\D+
\s
\S+
.+ſ.+
[ſ]
naïve.*
.*\d.*
(?a).*\d.*
.*\w$
\t
[\t]
\n
.*\n
.*$
.*\Z
\A.*
""".strip("\n").split("\n")

ATOMS = ["a", "b", "a|b", "[ab]", ".", "(a)", "(b)", "(a|b)", "(?:ab|a)", "(a*)", "(?=a)", "(?!b)", "(?<=a)", "(?<!b)"]
ATOMS += [r"\1", r"\b", "^", "$", "(?>a|ab)", "(?(1)a|b)", "()", "(a?)", "(?i:A)", " ", "[^a]"]
REPEATS = ["", "", "", "*", "+", "?", "*?", "+?", "??", "*+", "?+", "{2}", "{,2}", "{1,}", "{0,1}?", "{2}+"]
TEXTS = ["", "a", "b", "ab", "aab", "abab", "baab ab"]


def random_pattern(draw: random.Random) -> str:
    parts = []
    for _ in range(draw.randint(1, 5)):
        atom = draw.choice(ATOMS)
        if draw.random() < 0.25:
            atom = f"({draw.choice(['', '?:'])}{atom}{draw.choice(REPEATS)}{draw.choice(ATOMS)})"
        parts.append(atom + draw.choice(REPEATS))
    return "".join(parts)


def spans(found: re.Match | None) -> list | None:
    if found is None:
        return None
    return [None if found.start(i) < 0 else [found.start(i), found.end(i)] for i in range(found.re.groups + 1)]


def compiled(pattern: str) -> re.Pattern | None:
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return None


def result_of(pattern: str, names: list[str], composed: bool) -> dict:
    one = compiled(pattern)
    if one is None:
        result: dict = {"error": True}
    else:
        result = {"full": "".join(str(int(one.fullmatch(name) is not None)) for name in names)}
        result["match"] = [spans(one.match(name)) for name in names]
        result["search"] = [spans(one.search(name)) for name in names]
    if not composed:
        return result
    # A pattern may be right by itself and wrong in its place, and the other way round.
    for use, text in {"key": rf"(.*\.)?({pattern})$", "saved": rf"(^|.*\.){pattern}($|\..*)"}.items():
        if whole := compiled(text):
            result[use] = "".join(str(int(whole.match(name) is not None)) for name in names)
    if whole := compiled(rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\."):
        result["layer"] = [found and found.groupdict().get("idx") for found in map(whole.match, names)]
    return result


def main() -> None:
    warnings.simplefilter("ignore")
    draw = random.Random(7)
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError()))
    drawn: dict[str, dict] = {}
    while len(drawn) < 400:
        pattern = random_pattern(draw)
        signal.alarm(1)
        try:
            drawn[pattern] = result_of(pattern, TEXTS, composed=False)
        finally:
            signal.alarm(0)
    chosen = {pattern: result_of(pattern, NAMES, composed=True) for pattern in PATTERNS}
    lines = [
        f'"{key}": {{\n' + ",\n".join(f"{json.dumps(p)}: {json.dumps(r)}" for p, r in group.items()) + "\n}"
        for key, group in {"chosen": chosen, "random": drawn}.items()
    ]
    header = f'"names": {json.dumps(NAMES)},\n"texts": {json.dumps(TEXTS)},\n'
    OUT.write_text("{\n" + header + ",\n".join(lines) + "\n}\n")
    print(f"{len(chosen)} patterns and {len(drawn)} random ones: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
