#!/usr/bin/env python3
"""Render chat templates with transformers, for src/formats/chat.test.ts to compare with.

    python scripts/parity/chat_goldens.py      # writes src/formats/fixtures/chat/goldens.json

The templates are the .jinja files beside it: smollm2.jinja is the very one in the metadata of
SmolLM2-135M-Instruct.Q4_1.gguf; the others write the formats of Llama 2, Llama 3, 3.1 and 3.2, Mistral
Instruct without and with tools, Hermes, SmolLM3, Qwen2.5 and Qwen3. Versions: see requirements.txt.
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

CONVERSATIONS |= {
    "null keys": [
        {"role": "user", "content": "Hm?", "name": None},
        {"role": "assistant", "content": None, "tool_calls": CONVERSATIONS["tools"][1]["tool_calls"]},
    ],
    "reasoning": [
        {"role": "user", "content": "Hm?"},
        {"role": "assistant", "content": "A.", "reasoning": "first"},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "thinking": "second", "content": "B."},
        {"role": "user", "content": "So?"},
        {"role": "assistant", "content": "C.", "reasoning": "other", "reasoning_content": "third"},
    ],
}


def main() -> None:
    chat_template_utils.datetime = FixedDatetime
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>", pad_token="<pad>")

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
    }
    target = FOLDER / "goldens.json"
    partial = target.with_suffix(".tmp")
    partial.write_text(json.dumps(goldens, ensure_ascii=True, indent=0) + "\n", encoding="utf-8")
    os.replace(partial, target)
    print(f"{target}: {len(chats)} chats")


if __name__ == "__main__":
    main()
