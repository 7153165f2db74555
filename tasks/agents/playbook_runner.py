"""Play a playbook's part in the current folder, as told by a brief on standard input.

A program of its own: it runs in the sandbox without the rest of Chimera, and trusts neither the
checkout that it stands in nor the request. Exit codes: 0 done, 64 no playbook covers the
request, 65 the site has nothing that the playbook could be applied to.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

if __package__:
    from .playbooks import apart, checkout, markup, recognition
else:  # started by its path, where only this file and the folder beside it can be seen
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from playbooks import apart, checkout, markup, recognition  # type: ignore[import-not-found, no-redef]

NOT_COVERED = 64
NOT_APPLICABLE = 65
MAX_BRIEF_BYTES = 4 * 1024 * 1024
MAX_LAYOUTS = 40
PAGES = frozenset({".html", ".htm", ".xhtml", ".jinja", ".jinja2", ".j2", ".twig", ".njk"})
STYLES = frozenset({".css"})
PROGRAMS = frozenset({".py"})


class NotApplicableError(Exception):
    """The site has nothing that the playbook could be applied to."""


def main() -> int:
    """Read the brief, choose the playbook, play the role. Returns the exit code."""
    brief = json.loads(sys.stdin.buffer.read(MAX_BRIEF_BYTES))
    playbook = recognition.recognise(brief["feature"], recognition.load_all())
    if playbook is None:
        print("playbook: no playbook covers this request")
        return NOT_COVERED
    print(f"playbook: {playbook.title}")
    try:
        (write_test if brief["role"] == "author" else change_site)(Path.cwd(), playbook, brief)
    except (NotApplicableError, checkout.CheckoutError) as error:
        print(f"playbook: {error}")
        return NOT_APPLICABLE
    return 0


def write_test(root: Path, playbook: recognition.Playbook, brief: Mapping[str, Any]) -> None:
    """Write the playbook's end-to-end test to the path that the brief names."""
    template = (playbook.folder / playbook.test).read_text(encoding="utf-8")
    test = _filled(
        template,
        {
            "title": playbook.title,
            "feature": _in_a_docstring(brief["feature"]),
            "start_path": ascii(str(brief["start_path"])),
        },
    )
    checkout.write(root, brief["test_path"], test)
    print(f"playbook: wrote {brief['test_path']}")


def change_site(root: Path, playbook: recognition.Playbook, brief: Mapping[str, Any]) -> None:
    """Apply the playbook to every page layout of the site; what it did before is replaced.

    Raises NotApplicableError.
    """
    is_retry = bool(brief["findings"])
    layouts = find_layouts(root, playbook.name)
    own = _values(playbook)(_styles(root, layouts, playbook.name), is_retry=is_retry)
    values = {"start_path": _in_a_script(str(brief["start_path"])), **own}
    for path, text in _program_changes(root, playbook).items():
        checkout.write(root, path, text)
        print(f"playbook: changed {path}")
    files = apart.Files(root, playbook.name, layouts, is_retry=is_retry)
    changed = dict(layouts)
    for insert in playbook.inserts:
        if insert.when in ("always", "again" if is_retry else "first"):
            snippet = _filled(_snippet(playbook, insert.file), values)
            for path, text in changed.items():
                part = files.part(snippet, path)
                changed[path] = _inserted(text, playbook.name, insert, part)
    for path, text in changed.items():
        if text != checkout.read(root, path):
            checkout.write(root, path, text)
            print(f"playbook: changed {path}")
    for path in files.write():
        print(f"playbook: changed {path}")
    for new in playbook.new_files:
        if not checkout.exists(root, new.path):
            checkout.write(root, new.path, _filled(_snippet(playbook, new.file), values))
            print(f"playbook: added {new.path}")


def find_layouts(root: Path, name: str) -> dict[str, str]:
    """Return the site's whole pages by path, without the blocks that the playbook put there.

    Raises NotApplicableError if there are none, or more than a change may touch.
    """
    layouts: dict[str, str] = {}
    for path in checkout.walk(root, PAGES):
        text = checkout.read(root, path)
        if text is not None and markup.is_layout(text):
            layouts[path] = markup.without_blocks(text, name)
    if not layouts:
        raise NotApplicableError("found no HTML file or template that holds </head> and <body>")
    if len(layouts) > MAX_LAYOUTS:
        raise NotApplicableError(f"{len(layouts)} pages have a head of their own: too many")
    return layouts


def _styles(root: Path, layouts: Mapping[str, str], name: str) -> list[str]:
    """Return the style sheets that the layouts name, or else all of them, then style elements.

    What the playbook of that name wrote is none of them.
    """
    found = list(checkout.walk(root, STYLES))
    pages = "\n".join(layouts.values())
    named = [path for path in found if PurePosixPath(path).name in pages]
    texts = [checkout.read(root, path) for path in named or found]
    blocks = [block for text in layouts.values() for block in markup.style_blocks(text)]
    foreign = [text for text in texts if text and not text.startswith(apart.mark(name))]
    return foreign + list(dict.fromkeys(blocks))


def _inserted(text: str, name: str, insert: recognition.Insert, snippet: str) -> str:
    if any(sign in snippet for sign in markup.TEMPLATE_SIGNS):
        raise NotApplicableError(f"{insert.file} would be read as template code")
    changed = markup.insert(text, name, insert.places, snippet)
    if changed is None:
        raise NotApplicableError(f"found no place for {insert.file}")
    return changed


def _snippet(playbook: recognition.Playbook, file: str) -> str:
    return (playbook.folder / file).read_text(encoding="utf-8")


def _program_changes(root: Path, playbook: recognition.Playbook) -> dict[str, str]:
    """Return the Python files that the playbook changes or adds, by path, with their new text.

    Raises NotApplicableError.
    """
    if not (playbook.folder / "program.py").is_file():
        return {}
    files = {path: checkout.read(root, path) or "" for path in checkout.walk(root, PROGRAMS)}
    program = _module(playbook, "program.py")
    try:
        changed: dict[str, str] = program.change(files)
    except program.UnfitError as error:
        raise NotApplicableError(str(error)) from error
    return {path: text for path, text in changed.items() if text != files.get(path)}


def _values(playbook: recognition.Playbook) -> Callable[..., dict[str, str]]:
    """Return the playbook's own `values` function, or one that has none to give."""
    if not (playbook.folder / "values.py").is_file():
        return lambda styles, *, is_retry: {}
    function: Callable[..., dict[str, str]] = _module(playbook, "values.py").values
    return function


def _module(playbook: recognition.Playbook, file_name: str) -> Any:
    """Import a file of the playbook's folder."""
    file = playbook.folder / file_name
    name = f"chimera_playbook_{playbook.name}_{file.stem}"
    # A package by itself, so that it may import the files beside it.
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=[str(playbook.folder)]
    )
    if spec is None or spec.loader is None:
        raise recognition.PlaybookError(f"{file}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _filled(template: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template


def _in_a_docstring(feature: str) -> str:
    """Return the request as one short line that cannot end or escape the docstring."""
    plain = "".join(sign if sign.isprintable() else " " for sign in feature)
    plain = plain.replace("\\", "/").replace('"', "'").replace("@", " ")
    return textwrap.shorten(plain, 70, placeholder=" …").rstrip(" .'")


def _in_a_script(text: str) -> str:
    """Return the text as a JavaScript string that can neither end a script nor be a template."""
    plain = re.compile(r"[A-Za-z0-9/._~-]")
    signs = (sign if plain.match(sign) else f"\\u{{{ord(sign):x}}}" for sign in text)
    return '"' + "".join(signs) + '"'


if __name__ == "__main__":
    sys.exit(main())
