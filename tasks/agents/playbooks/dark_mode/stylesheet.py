"""Read the rules of a style sheet: those that always apply, written so that they can be copied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_PIECE = re.compile(
    r"""/\*.*?(?:\*/|$)|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|url\([^)]*\)|[{};]|[^/"'{};u]+|.""",
    re.DOTALL,
)
# What is copied into a page must not be able to end the style element or to start template code.
_PLAIN = re.compile(r"""[\w\s.#:,>+~*()\[\]="'^$|%!/-]+""")


class Rule(NamedTuple):
    """A selector list and its declarations, in order."""

    selectors: tuple[str, ...]
    declarations: tuple[tuple[str, str], ...]


def rules(css: str) -> Iterator[Rule]:
    """Yield the rules outside of conditions such as @media; those in @layer are included."""
    stack: list[str] = []
    pending = ""
    declarations: list[tuple[str, str]] = []
    for piece in _PIECE.findall(css):
        if piece.startswith("/*"):
            continue
        if piece == "{":
            stack.append(" ".join(pending.split()))
            pending, declarations = "", []
        elif piece in {"}", ";"}:
            _declare(pending, declarations)
            pending = ""
            if piece == "}" and stack:
                selector = stack.pop()
                if declarations and _applies(stack) and not selector.startswith("@"):
                    yield Rule(_selectors(selector), tuple(declarations))
                declarations = []
        else:
            pending += piece


def is_plain(text: str) -> bool:
    """Say whether the text can be copied into a page."""
    return _PLAIN.fullmatch(text) is not None and "</" not in text


def _applies(stack: list[str]) -> bool:
    return all(entry.startswith("@layer") for entry in stack)


def _declare(text: str, declarations: list[tuple[str, str]]) -> None:
    name, colon, value = text.partition(":")
    if colon and value.strip():
        name = name.strip()
        declarations.append((name if name.startswith("--") else name.lower(), value.strip()))


def _selectors(text: str) -> tuple[str, ...]:
    """Split at the commas that stand outside of brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "([") - (sign in ")]")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return tuple(part.strip() for part in parts if part.strip())
