"""How a site says which commit it runs: a header, a path or a command, as its project names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

MIN_DIGITS = 7  # of an abbreviated sha, as Git shows them
_SHA = re.compile(rf"(?<![0-9a-z])[0-9a-f]{{{MIN_DIGITS},64}}(?![0-9a-z])")
_HEADER = re.compile(r"[A-Za-z0-9-]+")


class Source(StrEnum):
    """Where the commit is told."""

    HEADER = "header"  # of the answer for the deployed URL
    PATH = "path"  # on the deployed site
    COMMAND = "command"  # of the operator's


@dataclass(frozen=True)
class CommitCheck:
    """Where to look, e.g. header X-Commit, path /version.txt, command ./which-commit {url}."""

    source: Source
    name: str

    @classmethod
    def parse(cls, text: str) -> CommitCheck:
        """Read `header:NAME`, `path:/PATH` or `command:COMMAND`. Raises ValueError."""
        source, _, name = text.strip().partition(":")
        name = name.strip()
        is_fit = {
            "header": _HEADER.fullmatch(name) is not None,
            "path": re.fullmatch(r"/(?!/)[!-~]*", name) is not None,  # "//x" would name a host
            "command": name != "",
        }
        if not is_fit.get(source, False):
            raise ValueError(
                "say how the site tells its commit: header:X-Commit, path:/version.txt or "
                "command:COMMAND"
            )
        return cls(Source(source), name)


def is_told(sha: str, said: str) -> bool:
    """Say whether a text names this commit, whole or abbreviated, and no other.

    Words of decimal digits that are not it are taken for times and numbers.
    """
    words = set(_SHA.findall(said.lower()))
    ours = {word for word in words if sha.startswith(word)}
    return bool(ours) and all(word.isdigit() for word in words - ours)
