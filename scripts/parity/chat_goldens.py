#!/usr/bin/env python3
"""Render chat templates with transformers, for src/formats/chat.test.ts and jinja.test.ts to compare with.

    python scripts/parity/chat_goldens.py      # writes src/formats/fixtures/chat/goldens.json

The templates are the .jinja files beside it: smollm2.jinja is the very one in the metadata of
SmolLM2-135M-Instruct.Q4_1.gguf; the others write the formats of Llama 2, Llama 3, 3.1 and 3.2, Mistral
Instruct without and with tools, Hermes, SmolLM3, Qwen2.5 and Qwen3. `semantics` are one-line templates, each about one thing that Python's jinja2
and other implementations may take differently. Versions: see requirements.txt.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import jinja2
import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

FOLDER = Path(__file__).resolve().parents[2] / "src" / "formats" / "fixtures" / "chat"
NOW = "2025-03-09T08:07:06"


class FixedDatetime(datetime.datetime):
    """strftime_now must say the same on every day."""

    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromisoformat(NOW)


def turn(role: str, content, **more) -> dict:
    return {"role": role, "content": content, **more}


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Wetter für eine Stadt — <b>°C</b> & 'more'",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "empty": []},
    },
}
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 2, "now": True}}}

SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Finds pages",
        "parameters": {
            "type": "object",
            "properties": {
                "words": {"type": "array", "items": {"type": "string"}, "description": " What to look for. "},
                "limit": {"type": ["integer", "string"]},
                "weights": {"type": "object", "additionalProperties": {"type": "number"}},
                "any": {"description": "it's \"quoted\"", "default": [-0.5, 3, None, "\x07\u00a0\n"]},
            },
        },
        "return": {"type": "boolean"},
    },
}


def call(id: str, name: str, **arguments) -> dict:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {
    "user": [turn("user", "Hi there")],
    "system": [turn("system", "Be brief."), turn("user", "What is 2+2?"), turn("assistant", "4")],
    "three turns": [
        turn("user", "Name a colour."),
        turn("assistant", "Blue."),
        turn("user", "Another one?"),
        turn("assistant", "Red."),
        turn("user", "And a last one."),
        turn("assistant", "Green."),
    ],
    "unicode": [turn("user", "Grüße 👋🏽 家"), turn("assistant", "\ufeffHallo\u00a0🌍!\u2028")],
    "blanks": [
        turn("system", "\n  Keep the blanks. \n"),
        turn("user", "  two before,\ttwo after  \n\n"),
        turn("assistant", "\n\n\u001c\u0085 said \n\n"),
    ],
    "quotes": [turn("user", "a \"b\" 'c' \\n {{ x }} {% if %} <|im_end|>"), turn("assistant", "</s> {# no #}")],
    "thinking": [
        turn("user", "17*3?"),
        turn("assistant", "<think>\nseventeen times three\n</think>\n\n51"),
        turn("user", "Sure?"),
        turn("assistant", "Yes.", reasoning_content="\nthe same again\n"),
    ],
    "tools": [
        turn("user", "Weather in Köln?"),
        turn("assistant", "", tool_calls=[CALL]),
        turn("tool", '{"c": 7}'),
        turn("assistant", "7 degrees."),
    ],
    "chain of tools": [
        turn("system", "Use the tools."),
        turn("user", "How is it in Köln, and why?"),
        turn("assistant", "", tool_calls=[call("abcdefgh1", "get_weather", city="Köln")]),
        turn("tool", '{"c": 7}', tool_call_id="abcdefgh1", name="get_weather"),
        turn("assistant", "It has 7 degrees. Let me look further."),
        turn("user", "Please do."),
        turn("assistant", "", tool_calls=[call("abcdefgh2", "search", words=["rain", "it's"], limit=3, weights={"a": 0.5})]),
        turn("tool", "nothing", tool_call_id="abcdefgh2", name="search"),
        turn("assistant", "I found nothing."),
    ],
    "calls at once": [
        turn("user", "Köln and Bonn?"),
        turn(
            "assistant",
            "Two at once.",
            tool_calls=[call("abcdefgh1", "get_weather", city="Köln"), call("abcdefgh2", "get_weather", city="Bonn")],
        ),
        turn("tool", "7", tool_call_id="abcdefgh1", name="get_weather"),
        turn("tool", "8", tool_call_id="abcdefgh2", name="get_weather"),
        turn("assistant", "7 and 8 degrees."),
    ],
    "two users": [turn("user", "a"), turn("user", "b")],
    "empty": [turn("user", ""), turn("assistant", "")],
}

# (name, further variables)
RENDERINGS = [
    ("plain", {"add_generation_prompt": False}),
    ("prompt", {"add_generation_prompt": True}),
    ("no thinking", {"add_generation_prompt": True, "enable_thinking": False}),
    ("with tools", {"add_generation_prompt": True, "tools": [WEATHER]}),
    ("two tools", {"add_generation_prompt": False, "tools": [WEATHER, SEARCH]}),
]

SEMANTICS = [
    "{{ 'xxaxx'.strip('x') }}|{{ '\\n\\na\\n'.lstrip('\\n') }}|{{ 'ab'.rstrip('ab') }}|{{ ' a '.strip() }}|{{ 'xa' | trim('x') }}",
    "{{ none }}|{{ true }}|{{ False }}|{{ undefined_thing }}|{{ 1.0 }}|{{ 3 }}",
    "{{ none ~ 1 ~ true ~ 'x' ~ undefined_thing }}|{{ true | string }}|{{ [1, none, 'x', true] | join(', ') }}",
    "{{ '1' == 1 }}|{{ 1 == true }}|{{ none == undefined_thing }}|{{ '' == false }}|{{ 0 == '' }}|{{ [1, 'a'] == [1, 'a'] }}|{{ [] == '' }}",
    "{{ none != undefined_thing }}|{{ 1 != 1.0 }}|{{ 'a' != 'a' }}|{{ undefined_thing == other_thing }}",
    "{% for i in [1, 2] %}{% if i == 1 %}{% set x = 5 %}{% endif %}[{{ x }}]{% endfor %}{{ x }}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 7 %}{{ x }}{% endfor %}{{ x }}",
    "{% for a in [1, 2] %}{% for b in [3, 4] %}{{ a }}{{ b }}{{ loop.index }}{% set a = 9 %}{% endfor %}{{ a }}{{ loop.last }}{% endfor %}",
    "{% for k, v in {'a': 1, 'b': none}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for i in range(5) if i is odd %}{{ i }}{{ loop.length }}{% else %}none{% endfor %}{{ range(3, 0, -1) | length }}",
    "{% for i in [] %}x{% else %}nothing{% endfor %}",
    "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{% if i is even %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in range(3) %}{{ i }}{% if i == 1 %}{% break %}{% endif %}{% endfor %}",
    "{% for i in range(3) %}{% continue %}{% else %}nothing{% endfor %}",
    "{{ 'hELLO wORLD-it\\'s' | title }}|{{ 'hELLO it\\'s'.title() }}|{{ 'hELLO' | capitalize }}|{{ 'ÉCOLE'.capitalize() }}|{{ '' | capitalize }}",
    "{{ '👋🏽a' | length }}|{{ undefined_thing | length }}|{{ '👋ab'[1:] }}",
    "{{ 'a' + 1 }}",
    "{{ '%s' % 'x' }}",
    "{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 7 // 2 }}|{{ 7 / 2 }}|{{ 2 ** 3 }}",
    "{{ '{}'.format('x') }}",
    "{{ [1, 2] }}",
    "{{ {'a': [1, 'é<>&', none, true, 2.5], 'b': {}} | tojson }}|{{ {'b': 1, 'a': [1]} | tojson(indent=2) }}|{{ [] | tojson(indent=2) }}",
    "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}",
    "{{ 'a,b,c'.split(',', 1) | join(';') }}|{{ ' a  b '.split() | join('-') }}|{{ 'a-b'.replace('-', '+') }}",
    "{% macro f(x, y='d') %}<{{ x }}{{ y }}>{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(y=3, x=4) }}",
    "{% set ns = namespace(n=0) %}{% for i in [1, 2, 3] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "{% set block %}a{{ 1 }}b{% endset %}[{{ block }}]",
    "{%- if true %}\n  indented\n  {%- endif %}\n\n{# comment #}\n  {% if true %}\n line\n  {% endif %}\nend\n",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc",
    "{{ 'x' if false }}|{{ 'x' if true else 'y' }}|{{ undefined_thing | default('d') }}|{{ '' | default('d', true) }}",
    "{{ 'b' in ['a', 'b'] }}|{{ 'ell' in 'hello' }}|{{ 'k' in {'k': 1} }}|{{ 'k' not in {} }}",
    "{{ strftime_now('%d %b %Y %B %A %a %H:%M:%S %m %%') }}",
    "{{ ['b', 'A', 'c'] | sort | join('') }}|{{ ['a', 'A'] | unique | join('') }}",
    "{{ [{'r': 'u', 'c': 1}, {'r': 'a'}] | selectattr('r', 'equalto', 'u') | map(attribute='c') | first }}",
    "{{ [{'r': 1}] | groupby('r') | length }}",
    "{{ (1, 2) | length }}|{{ [1, 2, 3][-1] }}|{{ [1, 2, 3][::-1] | first }}|{{ 'abc'[-1] }}",
    "{% filter upper %}abc{% endfilter %}",
    "{{ {'a': 1, 'b': [none, true, 2.0, 'x']} | string }}|{{ [] ~ {} }}|{{ ['it\\'s', 'say \"x\"', 'both \\' and \"', '\\n\\t\\\\é👋\\u00a0\\u200b\\u0007'] | string }}",
    "{{ [0.0001, 0.00001, 123456789012345680.0, 1.5, 3.0, 3] | string }}|{{ 0.00001 }}|{{ [[1], {'a': {}}] ~ '' }}|{{ (1, 'a') | string }}",
    "{{ {'a': [1, {'b': none}]} == {'a': [1, {'b': none}]} }}|{{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1.0} }}|{{ {'a': 1} == {'a': 1, 'b': 1} }}|{{ {'a': 1} != {'a': 2} }}|{{ {} == [] }}|{{ {'a': 1} in [{'a': 1}] }}",
    "{% set d = {'a': 1} %}{{ d[['a']] is defined }}|{{ d[none] is defined }}|{{ d[x] is defined }}|{{ d['a'] }}|{{ d['b'] is defined }}|{{ d[{}] }}|{{ [5, 6][1] }}|{{ d is iterable }}|{{ x is iterable }}|{{ none is iterable }}|{{ 1 is not iterable }}|{{ 'a' is iterable }}|{{ (1, 2) is iterable }}",
    "{% for c in 'a👋' %}[{{ c }}]{% endfor %}{% for c in x %}{{ c }}{% else %}none{% endfor %}{% for c in 'abc' if c != 'b' %}{{ c }}{% endfor %}",
    "{{ [{'r': 'a'}, {'r': 'b', 't': 1}, {'r': 'c'}] | rejectattr('r', 'equalto', 'a') | selectattr('t', 'undefined') | list | length }}|{{ ['b ', 'a'] | map('trim') | join(',') }}",
    "{{ x is defined }}|{{ none is none }}|{{ 'a' is string }}|{{ {} is mapping }}|{{ [] is iterable }}|{{ 1 is number }}|{{ true is boolean }}",
    "{% generation %}a{% endgeneration %}\nb{% generation -%}  c  {%- endgeneration %}d",
]


def main() -> None:
    chat_template_utils.datetime = FixedDatetime
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>")

    def render(template: str, messages: list, variables: dict) -> dict:
        try:
            text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **variables)
            return {"text": text}
        except Exception as error:  # noqa: BLE001 - whatever Python raises is the expectation
            return {"error": str(error)}

    chats = []
    for path in sorted(FOLDER.glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        for name, messages in CONVERSATIONS.items():
            for rendering, variables in RENDERINGS:
                if rendering == "no thinking" and path.stem != "qwen3":
                    continue
                if rendering == "with tools" and name not in ("system", "tools"):
                    continue
                if rendering == "two tools" and name not in ("chain of tools", "calls at once"):
                    continue
                chats.append(
                    {"template": path.stem, "conversation": name, "rendering": rendering}
                    | render(template, messages, variables)
                )
    goldens = {
        "made_by": f"scripts/parity/chat_goldens.py, transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
        "now": NOW,
        "conversations": CONVERSATIONS,
        "renderings": dict(RENDERINGS),
        "chats": chats,
        "semantics": [{"template": template} | render(template, [turn("user", "Hi")], {}) for template in SEMANTICS],
    }
    target = FOLDER / "goldens.json"
    partial = target.with_suffix(".tmp")
    partial.write_text(json.dumps(goldens, ensure_ascii=True, indent=0) + "\n", encoding="utf-8")
    os.replace(partial, target)
    print(f"{target}: {len(chats)} chats, {len(SEMANTICS)} semantics")


if __name__ == "__main__":
    main()
