"""A folder that an agent worked in becomes a tree, byte for byte, whatever is planted in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.workspace import checkout, intake, tree
from tasks.workspace.git import GitError, Repository
from tests.unit.git_samples import (
    based_on,
    commit_all,
    content_of,
    fetch,
    git,
    make_origin,
    paths_after,
    write,
)

EXACT = {
    "crlf.txt": b"one\r\ntwo\r\n",
    "mixed.txt": b"one\r\ntwo\nthree\r",
    "ident.c": b"$Id$ $Id: 0123 $\n",
    "utf16.txt": "text\n".encode("utf-16"),
    "broken.txt": b"\xff\xfe\x00\xd8",
    "nul.bin": bytes(range(256)),
    "empty": b"",
    ".gitattributes": (
        b"* text=auto eol=crlf ident filter=evil diff=evil merge=evil export-subst\n"
        b"*.txt working-tree-encoding=UTF-16\nempty export-ignore\n"
    ),
}
ODD_NAMES = [
    "new\nline",
    "-rf",
    "--help",
    ":(top)magic",
    ":!not",
    "'single' \"double\" `back` $(sub)",
    "sp  ace ",
    "ünïcödé-✓",
    "tab\tand\x1bescape",
    "back\\slash",
    "*?[a]",
    "#hash",
    "!bang",
    " ",
    "~",
    "deep/-x/ü\n/:a",
]


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Repository, str, Path]:
    """Give a repository, its head and a workspace of it."""
    files = {"app.py": b"x = 1\n", "pkg/mod.py": b"y = 2\n", ".gitignore": b"*.log\nbuild/\n"}
    repository, base = based_on(tmp_path, files)
    return repository, base, checkout.create(repository, base, tmp_path / "work").folder


def test_an_untouched_workspace_gives_the_tree_that_it_came_from(tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "origin", {**EXACT, **dict.fromkeys(ODD_NAMES, b"1")})
    (origin / "run").write_text("#!/bin/sh\n")
    (origin / "run").chmod(0o755)
    (origin / "inner").symlink_to("deep/-x")
    (origin / "outer").symlink_to("/etc/passwd")
    (origin / "odd").symlink_to("deep/../../../etc/passwd")
    git(origin, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    git(origin, "-c", "core.autocrlf=false", "commit", "-q", "-m", "sub")
    git(origin, "rm", "-q", "--cached", "sub")
    commit_all(origin)
    git(origin, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    git(origin, "commit", "-q", "-m", "sub again")
    repository = fetch(tmp_path, origin)
    base = repository.head("main")

    work = checkout.create(repository, base, tmp_path / "work").folder
    imported = repository.import_tree(work, base=base)

    assert repository.changed(base, imported.tree) == ()
    assert imported.skipped == ()


def test_content_goes_in_and_out_byte_for_byte(
    planted: tuple[Repository, str, Path], tmp_path: Path
) -> None:
    repository, base, work = planted
    write(work, EXACT)

    sha = repository.import_tree(work, base=base).tree

    for name, content in EXACT.items():
        assert repository.read(sha, name) == content
    repository.export(sha, tmp_path / "out")
    assert content_of(tmp_path / "out") == content_of(work)


def test_odd_names_go_in_and_out(planted: tuple[Repository, str, Path], tmp_path: Path) -> None:
    repository, base, work = planted
    write(work, {name: name.encode() for name in ODD_NAMES})

    sha = repository.import_tree(work, base=base).tree

    assert set(repository.paths(sha)) == {"app.py", "pkg/mod.py", ".gitignore", *ODD_NAMES}
    repository.export(sha, tmp_path / "out")
    assert content_of(tmp_path / "out") == content_of(work)


def test_edits_deletions_and_replacements_are_seen(
    planted: tuple[Repository, str, Path],
) -> None:
    repository, base, work = planted
    (work / "app.py").unlink()
    write(work, {"app.py/now/deep.py": b"", "pkg2/a": b"", ".gitignore": b"*\n"})
    (work / "pkg" / "mod.py").unlink()
    (work / "pkg").rmdir()
    (work / "pkg").write_text("a file now")

    sha = repository.import_tree(work, base=base).tree

    assert set(repository.paths(sha)) == {".gitignore", "app.py/now/deep.py", "pkg", "pkg2/a"}
    assert repository.read(sha, ".gitignore") == b"*\n"


def test_the_executable_bit_is_kept(planted: tuple[Repository, str, Path], tmp_path: Path) -> None:
    repository, base, work = planted
    (work / "app.py").chmod(0o755)

    sha = repository.import_tree(work, base=base).tree

    repository.export(sha, tmp_path / "out")
    assert os.access(tmp_path / "out" / "app.py", os.X_OK)
    assert (tmp_path / "out" / "pkg" / "mod.py").stat().st_mode & 0o111 == 0
    assert [change.path for change in repository.changed(base, sha)] == ["app.py"]


def test_files_without_permissions_are_taken_all_the_same(
    planted: tuple[Repository, str, Path],
) -> None:
    repository, base, work = planted
    write(work, {"pkg/new.py": b""})
    for path in [work / "app.py", work / "pkg" / "mod.py", work / "pkg"]:
        path.chmod(0)

    imported = repository.import_tree(work, base=base)

    assert imported.skipped == ()
    assert [change.path for change in repository.changed(base, imported.tree)] == ["pkg/new.py"]


def test_what_the_base_ignores_and_what_tools_leave_is_left_out(
    planted: tuple[Repository, str, Path],
) -> None:
    repository, base, work = planted
    litter = ["__pycache__/a.pyc", "pkg/b.pyc", ".venv/bin/x", "sub/node_modules/y/z.js"]
    ignored = ["a.log", "pkg/b.log", "build/out/c", "pkg/build/d"]
    write(work, dict.fromkeys([*litter, *ignored, "kept.py", "pkg/built/e"], b""))

    found = paths_after(repository, base, work)

    assert found == {".gitignore", "app.py", "pkg/mod.py", "kept.py", "pkg/built/e"}


def test_an_ignored_file_that_the_base_tracks_is_taken(tmp_path: Path) -> None:
    files = {".gitignore": b"*.log\nvendor/\n", "a.log": b"1", "vendor/b": b"1", "x.pyc": b"1"}
    repository, base = based_on(tmp_path, files)
    work = checkout.create(repository, base, tmp_path / "work").folder
    write(work, {"a.log": b"2", "vendor/b": b"2", "x.pyc": b"2", "vendor/c": b"", "d.log": b""})

    sha = repository.import_tree(work, base=base).tree

    assert set(repository.paths(sha)) == files.keys()
    assert {change.path for change in repository.changed(base, sha)} == {
        "a.log",
        "vendor/b",
        "x.pyc",
    }


def test_gitignore_files_below_count_with_their_exceptions(tmp_path: Path) -> None:
    files = {"a/.gitignore": b"*\n!keep\n!b/\n", "a/b/.gitignore": b"!*.me\n"}
    repository, base = based_on(tmp_path, files)
    work = checkout.create(repository, base, tmp_path / "work").folder
    write(work, {"a/x": b"", "a/keep": b"", "a/b/x": b"", "a/b/take.me": b"", "x": b""})

    found = paths_after(repository, base, work)

    assert found == {*files, "a/keep", "a/b/take.me", "x"}


def test_an_agent_can_not_hide_a_change_by_ignoring_it(
    planted: tuple[Repository, str, Path],
) -> None:
    repository, base, work = planted
    write(work, {".gitignore": b"*\n", ".git/info/exclude": b"*\n", "pkg/.gitignore": b"*\n"})
    write(work, {"app.py": b"changed", "pkg/new.py": b"new"})
    git(work, "update-index", "--assume-unchanged", "app.py")
    git(work, "config", "core.excludesFile", str(work / ".gitignore"))

    sha = repository.import_tree(work, base=base).tree

    changed = {change.path for change in repository.changed(base, sha)}
    assert changed == {".gitignore", "app.py", "pkg/.gitignore", "pkg/new.py"}


def test_too_many_files_are_an_error(
    planted: tuple[Repository, str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, base, work = planted
    monkeypatch.setattr(tree, "FILE_LIMIT", 4)
    write(work, {"a": b"", "b": b""})

    with pytest.raises(GitError, match="more than 4 files") as caught:
        repository.import_tree(work, base=base)

    assert caught.value.permanent


def test_too_many_bytes_are_an_error_before_they_are_read(
    planted: tuple[Repository, str, Path],
) -> None:
    repository, base, work = planted
    with (work / "sparse").open("wb") as file:
        file.truncate(10**12)

    with pytest.raises(GitError, match="more than 200 MiB") as caught:
        repository.import_tree(work, base=base)

    assert caught.value.permanent


def test_a_folder_of_ignored_files_is_not_searched(
    planted: tuple[Repository, str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, base, work = planted
    write(work, {f"node_modules/{n}/x.js": b"" for n in range(50)})
    monkeypatch.setattr(intake, "ENTRY_LIMIT", 20)

    assert len(paths_after(repository, base, work)) == 3


def test_large_content_is_handed_over_in_batches(
    planted: tuple[Repository, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, base, work = planted
    monkeypatch.setattr(tree, "BATCH_BYTES", 1000)
    monkeypatch.setattr(intake, "BATCH_BYTES", 1000)
    write(work, {f"f{n}": bytes([n]) * 700 for n in range(10)})

    sha = repository.import_tree(work, base=base).tree

    repository.export(sha, tmp_path / "out")
    assert content_of(tmp_path / "out") == content_of(work)
