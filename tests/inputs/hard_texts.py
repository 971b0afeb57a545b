"""Texts on which tokenizers disagree."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEXTS = [
    "Hello, World! It's the UN's 1st test.",
    "Café naïve Ångström ÉÀ résumé",
    "e\u0301 o\u0308 A\u030a decomposed",
    "猫が好き。 東京都 中文字符 mixed混合text",
    "🐈 🐈‍⬛ 👩🏽‍🚀 emoji🎉end",
    "a" * 101 + " " + "b" * 100 + " " + "unaffable" * 20,
    "tab\tnew\nline\r\nreturn\x00null\x07bell\x1b[0m\ufeffbom\u200bzero\u00adsoft",
    "   leading and   many    spaces   ",
    "\u00a0no-break\u2003em\u3000ideographic",
    "Ünïcödé ﬁ ﬂ ½ ² ™ ℃ Ⅷ ß ẞ İstanbul ĳ",
    "Привет мир שלום עולם مرحبا नमस्ते สวัสดี 안녕하세요",
    "don't 'quoted' \"double\" it's we'll I'D 12345 3.14159 1,000 $5",
    "http://example.com/a?b=c&d=e user@example.org #tag @name __init__ a_b-c",
    "\U00010348 \U0001d54f \U000e0041 \ufffd \ue000",
    "def f(x):\n    return x**2  # two\n\n\n\nend",
    ".",
    " ",
    "",
]
PAIRS = [("first text", "the second one"), ("", "only the second"), ("猫 🐈", "Ünïcödé  twice")]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
