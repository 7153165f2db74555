"""A failed assertion in words: what was expected, where, and what was there instead.

Playwright's `expect` and time-outs tell it in their messages, pytest's rewriting in its own. All
of it is text that a test and a site had a hand in: it is bounded, and never believed to be more.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MAX_WORDS = 300
MAX_SOURCE = 600
MAX_MESSAGE = 4000  # so much is read at all; the plugin writes no more
NOTHING = "no such element"

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?|\x9b[0-?]*[@-~]")
_CALL_LOG = "\nCall log:"
_EXPECT = re.compile(r'^ *- Expect "(\w+)"(.*) with timeout [\d.]+ms$', re.MULTILINE)
_WAITING = re.compile(r"^ *-? ?waiting for (.+)$", re.MULTILINE)
_STATE = re.compile(r"(.+) (to be (?:visible|hidden|attached|detached))")
_SUBJECT = re.compile(r"(Locator|Page title|Page URL|Page|Response) expected ")
_TIMEOUT = re.compile(r"(\w+)\.(\w+): Timeout ([\d.]+)ms exceeded")
_QUOTED = re.compile(r"'(\[.*\]|re\.compile\(.*\))'$", re.DOTALL)  # lists and patterns are no text
_OBSTACLE = re.compile(r"^ *- (element .+)$", re.MULTILINE)
_SUBJECTS = {
    "Page title": "the page's title",
    "Page URL": "the page's address",
    "Page": "the page",
    "Response": "the response",
}


@dataclass(frozen=True)
class Failure:
    """One failed assertion; each part is "" where the test did not tell it."""

    expected: str = ""  # as in "to have text 'Spring sale'", or a condition in Python
    where: str = ""  # a locator, or a part of the page in words
    actual: str = ""
    source: str = ""  # the statement of the test
    message: str = ""  # the test author's own words

    @property
    def sentence(self) -> str:
        """Say it in one sentence; "" where it is not known what was expected."""
        if not self.expected:
            return ""
        opening = f"“{self.message}” does not hold: expected" if self.message else "Expected"
        subject = f"{self.where} {self.expected}" if self.where else self.expected
        instead = f"; instead: {self.actual}" if self.actual else ""
        return f"{opening} {subject}{instead}."

    def as_json(self) -> dict[str, str]:
        """Return the parts by name."""
        return asdict(self)


def bounded(text: object, limit: int = MAX_WORDS) -> str:
    """Return text on one line, without escape sequences and characters that cannot be seen."""
    plain = _ANSI.sub("", str(text)[: limit * 8])
    line = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def read(test: Mapping[str, Any]) -> Failure:
    """Read one failed test of the plugin's report."""
    message = str(test.get("message", ""))[:MAX_MESSAGE]
    source = str(test.get("source", ""))[:MAX_MESSAGE]
    if found := _TIMEOUT.match(message):
        failure = _of_timeout(message, found)
    elif "\nActual value: " in message and _CALL_LOG in message:
        failure = _of_expect(message)
    else:
        try:
            failure = _of_assert(message, source)
        except RecursionError:  # no person wrote so deep an expression
            failure = Failure(message=message)
    return Failure(
        expected=bounded(failure.expected),
        where=bounded(failure.where),
        actual=bounded(failure.actual),
        source=_shown(source),
        message=bounded(failure.message),
    )


def _of_expect(message: str) -> Failure:
    """Read what `expect` says; where the author gave a message, that stands in the first line."""
    head, _, log = message.partition(_CALL_LOG)
    said, _, rest = head.partition("\nActual value: ")
    value, _, error = rest.partition("\nError: ")
    call, waited = _EXPECT.search(log), _WAITING.search(log)
    where = (call[2].strip() if call else "") or (waited[1] if waited else "")
    own = ""
    if subject := _SUBJECT.match(said):
        expected = said[subject.end() :]
        where = _SUBJECTS.get(subject[1], where)
    else:
        own, _, wanted = said.partition("\nExpected value: ")
        verb = call[1].replace("_", " ") if call else "to be"
        expected, where = f"{verb} {wanted}", where or "the page"
    if error:
        first = error.partition("\n")[0].rstrip(" :")
        actual = NOTHING if first == "element(s) not found" else first
    else:
        is_text = "'" in expected and value.strip() != "None" and not value.startswith("[")
        actual = f"'{value.strip()}'" if is_text else value
    return Failure(_QUOTED.sub(r"\1", expected), where, actual, message=own)


def _of_timeout(message: str, found: re.Match[str]) -> Failure:
    """Read what an action or a wait of Playwright says when it has waited in vain."""
    method, waited, log = found[2], _WAITING.search(message), message.partition(_CALL_LOG)[2]
    target = waited[1] if waited else ""
    limit = f"within {found[3]} ms"
    if found[1] == "Page" and (not log or not target):
        return Failure(f"to give {target or method}", "the page", f"nothing {limit}")
    state = _STATE.fullmatch(target)
    where, expected = (state[1], state[2]) if state else (target, f"to be ready for {method}")
    obstacles = _OBSTACLE.findall(log)
    if obstacles:
        return Failure(expected, where, f"{obstacles[-1]} {limit}")
    is_there = "locator resolved to" in log
    return Failure(expected, where, f"not so {limit}" if is_there else f"{NOTHING} {limit}")


def _of_assert(message: str, source: str) -> Failure:
    """Read a plain `assert`: the author's message, then what pytest found the values to be."""
    lines = message.split("\n")
    marks = [number for number, line in enumerate(lines) if line.startswith("assert ")]
    condition = _condition(source)
    if not marks and condition is None:
        return Failure(message=message)
    own = " ".join(lines[: marks[-1]] if marks else lines)
    seen = lines[marks[-1]].removeprefix("assert ") if marks else ""
    if condition is None:
        return Failure(expected=seen, message=own)
    return Failure(ast.unparse(condition), "", _seen(seen, condition), message=own)


def _condition(source: str) -> ast.expr | None:
    """Return what the statement asserts; None where it is no assertion, or no Python."""
    tree = _parsed(textwrap.dedent(source))
    found = [node.test for node in ast.walk(tree) if isinstance(node, ast.Assert)] if tree else []
    return found[-1] if found else None


def _seen(text: str, condition: ast.expr) -> str:
    """Say the value that was there; `text` is the condition with the values filled in."""
    tree = _parsed(text)
    node = tree.body[0] if tree and tree.body else None
    values = node.value if isinstance(node, ast.Expr) else None
    if isinstance(values, ast.UnaryOp) and isinstance(values.op, ast.Not):
        return ast.unparse(values.operand)
    if not isinstance(values, ast.Compare) or not isinstance(condition, ast.Compare):
        return text
    if len(values.ops) == 1 and isinstance(values.ops[0], ast.Eq | ast.Is):
        is_turned = isinstance(condition.left, ast.Constant)  # as in: assert "X" == page.title()
        return ast.unparse(values.comparators[0] if is_turned else values.left)
    return f"{text} is not so"


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text[:2000])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _shown(source: str) -> str:
    """Return the statement with its own lines and indentation, as far as they can be seen."""
    lines = textwrap.dedent(source).strip("\n").split("\n")
    kept = ["".join(c if c.isprintable() else " " for c in _ANSI.sub("", x)) for x in lines[:20]]
    text = "\n".join(kept).rstrip()
    return text if len(text) <= MAX_SOURCE else text[: MAX_SOURCE - 1] + "…"
