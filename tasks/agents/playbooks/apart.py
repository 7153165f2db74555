"""Keep a snippet's styles and scripts in files of their own where many plain pages share them.

A site whose pages are whole HTML files has no layout to put them into once. Repeated in every
page they would be more than anybody reviews, or mends later.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from . import checkout, markup

FEW_PAGES = 3  # so many may as well hold it themselves
_PIECE = re.compile(r"^<(style|script)>\n(.*?)^</\1>$", re.DOTALL | re.MULTILINE)
_SUFFIX = {"style": "css", "script": "js"}


class Files:
    """The files that a playbook's snippets leave beside the pages; none where none are wanted."""

    def __init__(
        self, root: Path, name: str, layouts: Mapping[str, str], *, is_retry: bool
    ) -> None:
        self._root = root
        self._name = name
        self._folder = posixpath.commonpath([posixpath.dirname(path) for path in layouts])
        # A server may show the pages elsewhere than where they lie: a second try does without.
        self._is_wanted = len(layouts) > FEW_PAGES and not is_retry and _are_plain(layouts.values())
        self._texts: dict[str, str] = {}

    def part(self, snippet: str, page: str) -> str:
        """Return the snippet as `page` is to have it; what is taken out of it goes to a file."""
        if not self._is_wanted:
            return snippet
        return _PIECE.sub(lambda match: self._link(match[1], match[2], page) or match[0], snippet)

    def write(self) -> list[str]:
        """Write the files, remove those of an earlier try, and return the paths of both."""
        before = {path: self._read(path) for path in map(self._path, _SUFFIX)}
        changed = [path for path, text in self._texts.items() if text != before[path]]
        stale = [path for path, text in before.items() if text and path not in self._texts]
        for path in changed:
            checkout.write(self._root, path, self._texts[path])
        for path in stale:
            checkout.remove(self._root, path)
        return changed + stale

    def _link(self, kind: str, text: str, page: str) -> str:
        """Keep a text in a file and return the element that names it, or "" if it can't be kept."""
        path, whole = self._path(kind), mark(self._name) + text
        is_taken = checkout.exists(self._root, path) and self._read(path) is None
        if is_taken or self._texts.setdefault(path, whole) != whole:
            return ""
        address = posixpath.relpath(path, posixpath.dirname(page) or ".")
        if kind == "style":
            return f'<link rel="stylesheet" href="{address}">'
        return f'<script src="{address}"></script>'

    def _path(self, kind: str) -> str:
        return posixpath.join(self._folder, f"{self._name.replace('_', '-')}.{_SUFFIX[kind]}")

    def _read(self, path: str) -> str | None:
        """Return the text of a file that the playbook wrote; None if there is no such file."""
        if not checkout.exists(self._root, path):
            return None
        try:
            text = checkout.read(self._root, path) or ""
        except checkout.CheckoutError:
            return None  # a link
        return text if text.startswith(mark(self._name)) else None


def mark(name: str) -> str:
    """Return the first line of a file that the playbook of that name wrote."""
    return f"/* playbook:{name} */\n"


def _are_plain(pages: Collection[str]) -> bool:
    """Say whether none of the pages looks like a template."""
    return not any(sign in page for page in pages for sign in markup.TEMPLATE_SIGNS)
