"""A workspace is a repository of its own, and folders that agents filled are handled safely."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from pathlib import Path

import pytest

from tasks.workspace import checkout, plumbing
from tasks.workspace.folder import Folder, FolderError, is_git_name, is_safe, stays_inside
from tasks.workspace.git import GitError
from tasks.workspace.process import output
from tests.unit.git_samples import based_on, content_of, git, write


def test_a_workspace_holds_the_content_and_one_commit_of_it(tmp_path: Path) -> None:
    files = {"app.py": b"1\r\n", "a.log": b"tracked", ".gitignore": b"*.log\n", "deep/x y": b""}
    repository, base = based_on(tmp_path, files)

    made = checkout.create(repository, base, tmp_path / "work")

    assert made.folder == tmp_path / "work"
    assert made.base_sha == base
    assert content_of(made.folder) == files
    assert git(made.folder, "rev-list", "--count", "--all") == "1"
    assert git(made.folder, "status", "--porcelain") == ""
    assert sorted(git(made.folder, "ls-files").splitlines()) == sorted(files)


def test_a_workspace_shares_nothing_with_the_service(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path, {"app.py": b"1\n"})
    hidden = git(repository.path, "rev-parse", f"{base}^{{commit}}")

    made = checkout.create(repository, base, tmp_path / "work")

    assert git(made.folder, "remote") == ""
    assert not (made.folder / ".git" / "objects" / "info" / "alternates").exists()
    assert git(made.folder, "rev-list", "--all") != hidden
    config = (made.folder / ".git" / "config").read_text()
    assert str(repository.path) not in config
    for path in (made.folder / ".git").rglob("*"):
        assert not path.is_symlink()
        assert path.is_dir() or path.stat().st_nlink == 1


def test_an_agent_can_commit_and_compare_in_its_workspace(tmp_path: Path) -> None:
    files = {"app.py": b"1\r\n", ".gitattributes": b"* text working-tree-encoding=UTF-16 ident\n"}
    repository, base = based_on(tmp_path, files)
    work = checkout.create(repository, base, tmp_path / "work").folder
    write(work, {"app.py": b"2\r\n"})

    assert "+2" in git(work, "diff")
    git(work, "commit", "-a", "-q", "-m", "mine")
    assert git(work, "log", "--format=%s").splitlines() == ["mine", checkout.MESSAGE]


def test_an_empty_commit_gives_a_workspace_too(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path, {})

    made = checkout.create(repository, base, tmp_path / "work")

    assert content_of(made.folder) == {}
    assert git(made.folder, "status", "--porcelain") == ""


def test_a_workspace_is_only_made_in_an_empty_folder(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    write(tmp_path / "work", {"other": b""})

    with pytest.raises(GitError, match="is not empty"):
        checkout.create(repository, base, tmp_path / "work")


def test_a_file_is_added_whatever_lies_in_its_way(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    made = checkout.create(repository, base, tmp_path / "work")
    secret = tmp_path / "secret"
    secret.write_bytes(b"untouched")
    (made.folder / "link").symlink_to(secret)
    (made.folder / "hard").hardlink_to(secret)
    os.mkfifo(made.folder / "pipe")

    for name in ["link", "hard", "pipe", "new/deep/file"]:
        made.add_file(name, b"ours")
        assert (made.folder / name).read_bytes() == b"ours"

    assert secret.read_bytes() == b"untouched"


def test_a_file_is_not_added_through_a_linked_folder(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    made = checkout.create(repository, base, tmp_path / "work")
    (tmp_path / "elsewhere").mkdir()
    (made.folder / "tests").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError):
        made.add_file("tests/test_it.py", b"")

    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "path", ["", "/etc/x", "../x", "a/../x", "a//b", "./a", ".git/config", "a/.Git/x", "a\0b", "a/"]
)
def test_a_path_that_leaves_the_workspace_is_refused(tmp_path: Path, path: str) -> None:
    made = checkout.Workspace(tmp_path, "")

    with pytest.raises(FolderError):
        made.add_file(path, b"")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_removed_whatever_it_holds(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside, {"keep/file": b"kept"})
    folder = tmp_path / "hostile"
    write(folder, {"a/b/c": b"", "locked/in/x": b"", os.fsdecode(b"bad\xff\n"): b""})
    (folder / "link").symlink_to(outside)
    (folder / "a" / "link").symlink_to(outside / "keep")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    for path in [folder / "locked" / "in", folder / "locked", folder]:
        path.chmod(0)

    checkout.remove(folder)

    assert not folder.exists()
    assert content_of(outside) == {"keep/file": b"kept"}


def test_an_endlessly_deep_folder_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    at = os.open(folder, os.O_RDONLY)
    for _ in range(1200):  # beyond Python's stack, and a process's descriptors
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)

    checkout.remove(folder)

    assert not folder.exists()


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    write(tmp_path / "real", {"file": b""})
    (tmp_path / "link").symlink_to("real")

    checkout.remove(tmp_path / "link")
    checkout.remove(tmp_path / "nothing")

    assert (tmp_path / "real" / "file").exists()
    assert not (tmp_path / "link").is_symlink()


def test_removing_gives_up_on_a_folder_that_is_being_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "busy"
    write(folder, {"x": b""})
    monkeypatch.setattr(os, "unlink", lambda *args, **options: None)

    with pytest.raises(FolderError, match="could not be emptied"):
        checkout.remove(folder, timeout_s=0.1)


def test_a_folder_swapped_for_a_link_is_never_written_through(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    write(folder, {"d/x": b""})
    elsewhere.mkdir()
    stop = threading.Event()

    def swap() -> None:
        for turn in itertools.count():
            if stop.is_set():
                return
            with contextlib.suppress(OSError):  # the writer makes the folder again
                (folder / "d").rename(folder / f"old{turn}")
            with contextlib.suppress(OSError):
                (folder / "d").symlink_to(elsewhere)
            with contextlib.suppress(OSError):
                (folder / "d").unlink()

    racer = threading.Thread(target=swap)
    racer.start()
    limit = time.monotonic() + 0.5
    written = 0
    while time.monotonic() < limit:
        try:
            with Folder(folder) as opened:
                opened.write(b"d/file", b"")
            written += 1
        except OSError:
            continue
    stop.set()
    racer.join()

    assert written
    assert list(elsewhere.iterdir()) == []


def test_names_that_some_file_system_takes_for_git_are_known() -> None:
    names = [b".git", b".GIT", b".gIt", b".git.", b".git ", b"git~1", b"GIT~1", b".git::$INDEX"]

    assert all(is_git_name(name) for name in [*names, b"a\\.git", b".git\\x"])
    assert not any(is_git_name(name) for name in [b".gitignore", b"git", b"x.git", b".git-x"])


def test_paths_and_links_are_judged_by_where_they_can_lead() -> None:
    assert is_safe(b"a/b")
    assert stays_inside(b"a/b", b"../c")
    assert stays_inside(b"a", b".")
    assert not stays_inside(b"a", b"")
    assert not stays_inside(b"a", b"..")
    assert not stays_inside(b"a", b"x\0y")
    assert not stays_inside(b"a/b", b"x/../../y")


def test_the_calls_of_git_do_not_grow_with_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(plumbing, "output", lambda *a, **o: calls.append(a) or output(*a, **o))
    counts = []
    for number in [20, 200]:
        files = {f"pkg{n % 17}/mod{n}.py": b"x = 1\n" * 200 + bytes([n]) for n in range(number)}
        repository, base = based_on(tmp_path / str(number), files)
        calls.clear()
        made = checkout.create(repository, base, tmp_path / str(number) / "work")
        made.add_file("new.py", b"new")
        repository.import_tree(made.folder, base=base)
        counts.append(len(calls))

    assert counts[0] == counts[1] <= 10
