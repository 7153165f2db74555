"""Which playbook a request asks for, if any: every word of it has to be accounted for."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

# One entry per word; the set holds the words that may stand there.
Phrase = tuple[frozenset[str], ...]


class PlaybookError(Exception):
    """A playbook's folder is not as docs/playbooks.md says."""


@dataclass(frozen=True)
class Insert:
    """A snippet and where it goes in every page layout: the first place that the layout has."""

    file: str
    places: tuple[str, ...]
    when: str  # "always", "first" (first try) or "again" (after a try that failed)


@dataclass(frozen=True)
class NewFile:
    """A file that the change adds to the site, unless there is one already."""

    file: str
    path: str


@dataclass(frozen=True)
class Playbook:
    """A feature that the agent can test and build."""

    name: str
    folder: Path
    title: str
    summary: str
    phrases: tuple[Phrase, ...]  # one of these must be in the request
    beside: tuple[Phrase, ...]  # these may stand beside it
    refused: tuple[Phrase, ...]  # none of these may be in it
    test: str
    inserts: tuple[Insert, ...]
    new_files: tuple[NewFile, ...]


def load_all(folder: Path = FOLDER) -> list[Playbook]:
    """Read every playbook under `folder`, by name. Raises PlaybookError."""
    return [_load(path.parent) for path in sorted(folder.glob("*/playbook.toml"))]


def recognise(feature: str, playbooks: Sequence[Playbook]) -> Playbook | None:
    """Return the one playbook that covers the whole request; None if none does, or two do."""
    words = _words(feature)
    found = [playbook for playbook in playbooks if _covers(words, playbook)]
    return found[0] if len(found) == 1 else None


def strange_words(feature: str, playbooks: Sequence[Playbook]) -> list[str]:
    """Return the words that no playbook named in the request accounts for, or refuses, in order.

    Empty when the request names no playbook at all.
    """
    words = _words(feature)
    named = [playbook for playbook in playbooks if _spots(words, playbook.phrases)]
    if not named:
        return []
    known: set[int] = set()
    refused: set[int] = set()
    for playbook in named:
        known |= _places(words, (*playbook.phrases, *playbook.beside, *neutral()))
        refused |= _places(words, (*playbook.refused, *always_refused()))
    strange = [word for at, word in enumerate(words) if at not in known]
    return strange or [word for at, word in enumerate(words) if at in refused]


def neutral() -> tuple[Phrase, ...]:
    """Return the words that ask for nothing by themselves."""
    return tuple((frozenset([word]),) for word in str(_for_all()["words"]).split())


def always_refused() -> tuple[Phrase, ...]:
    """Return the rows of words that turn any request into another one."""
    return _phrases(_for_all(), "refused")


def _for_all() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "neutral.toml").read_text(encoding="utf-8"))


def _words(feature: str) -> list[str]:
    """Return the request's words in lower case; a symbol that isn't punctuation is one too."""
    text = unicodedata.normalize("NFKC", feature).casefold().replace("\u2019", "'")
    words: list[str] = []
    end = 0
    for match in _WORD.finditer(text):
        words += _symbols(text[end : match.start()])
        words.append(match[0].removesuffix("'s"))
        end = match.end()
    return words + _symbols(text[end:])


def _symbols(gap: str) -> list[str]:
    """Return what may carry meaning between words: everything but spaces and punctuation."""
    return [
        sign
        for sign in gap
        if not sign.isspace() and not unicodedata.category(sign).startswith("P")
    ]


def _covers(words: Sequence[str], playbook: Playbook) -> bool:
    """Say whether the words are nothing but the playbook's phrases and what may stand beside."""
    if _spots(words, (*playbook.refused, *always_refused())):
        return False
    steps = sorted(
        [(start, length, True) for start, length in _spots(words, playbook.phrases)]
        + [(at, length, False) for at, length in _spots(words, (*playbook.beside, *neutral()))]
    )
    # reached: (how many words are accounted for, whether one of the phrases was among them)
    reached = {(0, False)}
    for start, length, is_phrase in steps:
        for was_named in (True, False):
            if (start, was_named) in reached:
                reached.add((start + length, was_named or is_phrase))
    return (len(words), True) in reached


def _spots(words: Sequence[str], phrases: Sequence[Phrase]) -> set[tuple[int, int]]:
    """Return (start, length) of every place where one of the phrases stands."""
    return {
        (at, len(phrase))
        for phrase in phrases
        for at in range(len(words) - len(phrase) + 1)
        if all(words[at + step] in choice for step, choice in enumerate(phrase))
    }


def _places(words: Sequence[str], phrases: Sequence[Phrase]) -> set[int]:
    return {at for start, length in _spots(words, phrases) for at in range(start, start + length)}


def _load(folder: Path) -> Playbook:
    try:
        content = tomllib.loads((folder / "playbook.toml").read_text(encoding="utf-8"))
        recognition = content["recognise"]
        return Playbook(
            name=folder.name,
            folder=folder,
            title=str(content["title"]),
            summary=str(content["summary"]),
            phrases=_phrases(recognition, "phrases"),
            beside=_phrases(recognition, "beside"),
            refused=_phrases({"refused": [], **recognition}, "refused"),
            test=str(content.get("test", "test.py.txt")),
            inserts=tuple(
                Insert(entry["file"], tuple(entry["places"]), entry.get("when", "always"))
                for entry in content.get("insert", ())
            ),
            new_files=tuple(
                NewFile(entry["file"], entry["path"]) for entry in content.get("new_file", ())
            ),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlaybookError(f"{folder}/playbook.toml: {error!r}") from error


def _phrases(recognition: Mapping[str, Any], key: str) -> tuple[Phrase, ...]:
    """Read phrases such as "dark|night mode|theme": words, with choices parted by bars."""
    return tuple(
        tuple(frozenset(word.split("|")) for word in str(line).split()) for line in recognition[key]
    )
