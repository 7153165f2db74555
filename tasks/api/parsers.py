"""JSON in, strictly: what one reader could take for something else is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from tasks.api.problems import TooLarge
from tasks.api.renderers import SafeJSONRenderer

MAX_DEPTH = 32
MAX_DIGITS = 100  # of one number; far more than any field takes

# An escaped character, a quote, or a bracket: all that decides how deep the text is.
_STRUCTURE = re.compile(r'\\.|["\[\]{}]', re.DOTALL)


class StrictJSONParser(BaseParser):
    """Read JSON of limited size and depth: no NaN, no key twice, no text that can't be kept."""

    media_type = "application/json"
    renderer_class = SafeJSONRenderer  # fills the form of the browsable pages

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the value in the body. Raises ParseError and TooLarge."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes, the most that is taken.")
        return read(body)


def read(body: bytes) -> Any:
    """Return the value of a JSON text. Raises ParseError, whose text says what is wrong where."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParseError(f"The body is not UTF-8 at byte {error.start}.") from error
    refuse_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_decimal,
            parse_int=_whole,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ParseError(f"The body is not valid JSON at {where}: {error.msg}.") from error
    except RecursionError as error:
        raise ParseError("The JSON is nested too deeply.") from error
    refuse_text(value)
    return value


def refuse_depth(text: str) -> None:
    """Refuse brackets nested deeper than MAX_DEPTH, before any parser recurses into them."""
    depth = 0
    in_string = False
    for token in _STRUCTURE.finditer(text):
        mark = token.group()
        if mark == '"':
            in_string = not in_string
        elif not in_string and mark in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ParseError(f"The JSON is nested deeper than {MAX_DEPTH} levels.")
        elif not in_string and mark in "]}":
            depth -= 1


def refuse_text(value: Any) -> None:
    """Refuse NUL and lone surrogates anywhere, keys included: not every database can keep them."""
    waiting: list[tuple[str, Any]] = [("body", value)]
    while waiting:
        where, item = waiting.pop()
        if isinstance(item, dict):
            waiting += [(f"a key of {where}", key) for key in item]
            waiting += [(_shown(key), entry) for key, entry in item.items()]
        elif isinstance(item, list):
            waiting += [(where, entry) for entry in item]
        elif isinstance(item, str):
            if "\0" in item:
                raise ParseError(f"{where}: holds a NUL character (\\u0000); remove it.")
            if any("\ud800" <= character <= "\udfff" for character in item):
                raise ParseError(
                    f"{where}: holds half of a surrogate pair (\\ud800 to \\udfff), which is no "
                    "character; remove it."
                )


def _shown(key: str) -> str:
    return ascii(key[:60])[1:-1]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ParseError(f"The key “{_shown(twice)}” stands twice in one object; keep one.")
    return result


def _constant(name: str) -> Any:
    raise ParseError(f"{name} is not JSON.")


def _decimal(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ParseError("The body holds a number that is too large.")
    return value


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ParseError(f"The body holds a number of more than {MAX_DIGITS} digits.")
    return int(digits)
