"""Nothing that an agent plants in its workspace reaches further than the workspace."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tasks.workspace import checkout, intake
from tasks.workspace.git import GitError, Repository
from tests.unit.git_samples import (
    based_on,
    fetch,
    git,
    make_origin,
    paths_after,
    reasons,
    write,
)


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Repository, str, Path]:
    """Give a repository, its head and a workspace of it."""
    files = {"app.py": b"x = 1\n", "pkg/mod.py": b"y = 2\n", ".gitignore": b"*.log\nbuild/\n"}
    repository, base = based_on(tmp_path, files)
    return repository, base, checkout.create(repository, base, tmp_path / "work").folder


def test_a_poisoned_workspace_runs_nothing(
    planted: tuple[Repository, str, Path], tmp_path: Path
) -> None:
    repository, base, work = planted
    oracle = tmp_path / "oracle"
    script = work / "script"
    script.write_text(f"#!/bin/sh\ntouch '{oracle}'\ncat\n")
    script.chmod(0o755)
    for key in [
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "diff.external",
        "diff.evil.textconv",
        "diff.evil.command",
        "core.pager",
        "core.editor",
        "gpg.program",
    ]:
        git(work, "config", key, str(script))
    git(work, "config", "commit.gpgSign", "true")
    git(work, "config", "core.hooksPath", str(work / "hooks"))
    for name in ["pre-commit", "post-commit", "post-index-change", "reference-transaction"]:
        write(work, {f"hooks/{name}": script.read_bytes(), f".git/hooks/{name}": b""})
        (work / "hooks" / name).chmod(0o755)
    write(work, {".gitattributes": b"* filter=evil diff=evil\n", "app.py": b"changed\n"})

    sha = repository.commit(repository.import_tree(work, base=base).tree, [base], "x")
    repository.diff(base, sha)
    repository.changed(base, sha)
    repository.log(sha)
    repository.set_ref("refs/heads/x", sha)
    repository.export(sha, tmp_path / "out")
    again = checkout.create(repository, sha, tmp_path / "again")
    again.remove()

    assert not oracle.exists()
    assert repository.read(sha, "app.py") == b"changed\n"
    git(work, "status")  # the trap was armed: a careless Git springs it
    assert oracle.exists()


def test_a_git_file_that_points_elsewhere_is_not_followed(
    planted: tuple[Repository, str, Path], tmp_path: Path
) -> None:
    repository, base, work = planted
    secret = make_origin(tmp_path / "secret", {"secret.txt": b"s3cret"})
    checkout.remove(work / ".git")
    (work / ".git").write_text(f"gitdir: {secret}/.git\n")
    write(work, {"app.py": b"changed"})

    sha = repository.import_tree(work, base=base).tree

    assert [change.path for change in repository.changed(base, sha)] == ["app.py"]


def test_nested_repositories_are_files_without_their_git(
    planted: tuple[Repository, str, Path],
) -> None:
    repository, base, work = planted
    make_origin(work / "nested", {"inner.py": b"1"})
    make_origin(work / "pkg" / "deep", {"inner.py": b"1"})
    write(work, {"x/.GIT/config": b"", "x/.git /config": b"", "x/git~1/config": b""})
    write(work, {"x/.git::$DATA": b"", "x/a\\.git": b"", "x/.github": b"", "x/.gitmodules": b""})

    found = paths_after(repository, base, work)

    assert found - {"app.py", "pkg/mod.py", ".gitignore"} == {
        "nested/inner.py",
        "pkg/deep/inner.py",
        "x/.github",
        "x/.gitmodules",
    }
    assert reasons(repository, base, work)["nested/.git"] == "the name belongs to Git"
    assert ".git" not in reasons(repository, base, work)


def test_a_submodule_stays_as_it_is_until_files_take_its_place(tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "origin")
    git(origin, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    git(origin, "commit", "-q", "-m", "sub")
    repository = fetch(tmp_path, origin)
    base = repository.head("main")
    workspace = checkout.create(repository, base, tmp_path / "work")

    assert [(each.path, each.reason) for each in workspace.skipped] == [
        ("sub", "it is a submodule")
    ]
    make_origin(workspace.folder / "sub", {})
    assert repository.changed(base, repository.import_tree(workspace.folder, base=base).tree) == ()
    write(workspace.folder, {"sub/file": b""})
    assert paths_after(repository, base, workspace.folder) == {"app.py", "sub/file"}


def test_links_are_taken_only_when_they_stay_inside(
    planted: tuple[Repository, str, Path],
) -> None:
    repository, base, work = planted
    inside = {"a": "app.py", "pkg/b": "../app.py", "pkg/c": "./mod.py", "d": "pkg", "e": "nowhere"}
    outside = {
        "f": "/etc/passwd",
        "g": "../secret",
        "pkg/h": "../../secret",
        "i": "pkg/../../secret",
        "j": "pkg/../app.py",  # pkg may be a link, then .. leads anywhere
        "k": ".git/config",
        "l": "pkg/.GIT/config",
        "m": str(work / "app.py"),
    }
    for name, target in {**inside, **outside}.items():
        (work / name).symlink_to(target)

    imported = repository.import_tree(work, base=base)

    assert inside.keys() <= set(repository.paths(imported.tree))
    assert {each.path: each.reason for each in imported.skipped} == dict.fromkeys(
        outside, "it points outside"
    )


def test_a_directory_that_became_a_link_is_not_walked(
    planted: tuple[Repository, str, Path], tmp_path: Path
) -> None:
    repository, base, work = planted
    write(tmp_path / "secret", {"mod.py": b"s3cret"})
    (work / "pkg" / "mod.py").unlink()
    (work / "pkg").rmdir()
    (work / "pkg").symlink_to(tmp_path / "secret")

    assert paths_after(repository, base, work) == {"app.py", ".gitignore"}


def test_a_workspace_that_became_a_link_is_refused(
    planted: tuple[Repository, str, Path], tmp_path: Path
) -> None:
    repository, base, work = planted
    checkout.remove(work)
    work.symlink_to("/etc")

    with pytest.raises(GitError):
        repository.import_tree(work, base=base)


def test_what_is_no_file_is_left_out_and_named(
    planted: tuple[Repository, str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, base, work = planted
    os.mkfifo(work / "pipe")
    (work / "app.py").unlink()
    os.mkfifo(work / "app.py")
    monkeypatch.chdir(work)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")

        found = reasons(repository, base, work)

    assert found == {"pipe": "a FIFO", "app.py": "a FIFO", "sock": "a socket"}


def test_names_that_are_not_utf8_and_endless_paths_are_left_out(
    planted: tuple[Repository, str, Path],
) -> None:
    repository, base, work = planted
    (work / os.fsdecode(b"bad\xff")).write_bytes(b"")
    deep = "d/" * intake.DEPTH_LIMIT + "file"
    write(work, {deep: b""})

    found = reasons(repository, base, work)

    assert found == {"bad\\xff": "its name is not UTF-8", deep: "its path is too long"}
