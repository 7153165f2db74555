"""Find places in HTML, in template files too, and put blocks there that can be taken out again."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What must not be taken for tags: template code, comments, and the text of scripts and styles.
_OPAQUE = re.compile(
    r"\{%-?\s*comment\b.*?\{%-?\s*endcomment\s*-?%\}"
    r"|\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}"
    r"|<!--.*?-->"
    r"|<(script|style|textarea|title|template)\b.*?</\1\s*>",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTES = r"""(?:[^>"']|"[^"]*"|'[^']*')*"""
TEMPLATE_SIGNS = ("{{", "{%", "{#")


class PlaceError(Exception):
    """A playbook names a place that there is no such word for."""


def is_layout(text: str) -> bool:
    """Say whether the text is a whole page: one with a head and a body."""
    masked = _masked(text)
    return _before_close(masked, "head") is not None and _after_open(masked, "body") is not None


def find_place(text: str, place: str) -> int | None:
    """Return the offset of a place such as "end of head"; None if the text hasn't got it.

    `banner` is the end of the site's own navigation: of the first header or nav of the body,
    or of the nav within that header. Raises PlaceError.
    """
    masked = _masked(text)
    if place == "banner":
        return _banner(masked)
    edge, _, tag = place.partition(" of ")
    if edge == "start" and tag in {"body", "main"}:
        return _after_open(masked, tag)
    if edge == "end" and tag in {"head", "body", "main", "footer"}:
        return _before_close(masked, tag, is_last=tag != "head")
    raise PlaceError(f"unknown place {place!r}")


def insert(text: str, name: str, places: Sequence[str], snippet: str) -> str | None:
    """Return the text with `snippet` as a block at the first of `places` that it has, or None."""
    for place in places:
        offset = find_place(text, place)
        if offset is not None:
            return _insert_at(text, offset, name, snippet, is_after=place.startswith("start"))
    return None


def without_blocks(text: str, name: str) -> str:
    """Return the text as it was before `insert` put blocks of that name into it."""
    block = rf"<!-- playbook:{name} -->.*?<!-- /playbook:{name} -->"
    return re.sub(rf"^[ \t]*{block}\r?\n|{block}", "", text, flags=re.DOTALL | re.MULTILINE)


def style_blocks(text: str) -> list[str]:
    """Return the text of every style element."""
    return re.findall(rf"<style\b{_ATTRIBUTES}>(.*?)</style\s*>", text, re.DOTALL | re.IGNORECASE)


def _masked(text: str) -> str:
    """Return text of the same length in which only real tags look like tags."""
    return _OPAQUE.sub(lambda match: " " * len(match[0]), text)


def _open_tag(masked: str, tag: str, start: int = 0) -> re.Match[str] | None:
    pattern = re.compile(rf"<{tag}(?=[\s>/]){_ATTRIBUTES}>", re.IGNORECASE)
    return pattern.search(masked, start)


def _after_open(masked: str, tag: str) -> int | None:
    match = _open_tag(masked, tag)
    return match.end() if match else None


def _before_close(
    masked: str, tag: str, start: int = 0, end: int | None = None, *, is_last: bool = False
) -> int | None:
    pattern = re.compile(rf"</{tag}\s*>", re.IGNORECASE)
    found = [match.start() for match in pattern.finditer(masked, start, end or len(masked))]
    return found[-1 if is_last else 0] if found else None


def _banner(masked: str) -> int | None:
    body = _after_open(masked, "body")
    if body is None:
        return None
    content = _open_tag(masked, "main", body) or _open_tag(masked, "footer", body)
    limit = content.start() if content else len(masked)
    header, nav = _open_tag(masked, "header", body), _open_tag(masked, "nav", body)
    starts = {
        match.start(): tag
        for tag, match in (("header", header), ("nav", nav))
        if match and match.start() < limit
    }
    if not starts:
        return None
    first = min(starts)
    end = _before_close(masked, starts[first], first)
    if starts[first] == "header" and end is not None:
        inner = _before_close(masked, "nav", first, end)
        return end if inner is None else inner
    return end


def _insert_at(text: str, offset: int, name: str, snippet: str, *, is_after: bool) -> str:
    """Insert a block: on lines of its own where the place is at the edge of a line."""
    newline = "\r\n" if "\r\n" in text else "\n"
    block = f"<!-- playbook:{name} -->\n{snippet.strip()}\n<!-- /playbook:{name} -->"
    line_start = text.rfind("\n", 0, offset) + 1
    indent = re.match(r"[ \t]*", text[line_start:])[0]  # type: ignore[index]
    if is_after and (rest := re.match(r"[ \t]*\r?\n", text[offset:])):
        line_start = offset = offset + rest.end()
    if text[line_start:offset].strip(" \t"):
        return text[:offset] + block.replace("\n", newline) + text[offset:]
    lines = [f"{indent}  {line}".rstrip() for line in block.split("\n")]
    return text[:line_start] + newline.join(lines) + newline + text[line_start:]
