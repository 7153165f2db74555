"""The service's repository: commits, refs, differences."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.workspace import git as hands
from tasks.workspace.git import EMPTY_TREE, Change, GitError, Repository, create_from_folder
from tests.unit.git_samples import based_on, commit_all, content_of, git, write


def imported(repository: Repository, base: str, folder: Path, files: dict[str, bytes]) -> str:
    """Commit `base` with some files written over it."""
    repository.export(base, folder)
    write(folder, files)
    tree = repository.import_tree(folder, base=base).tree
    return repository.commit(tree, [base], "Change\n\nWhy")


def test_refs_of_a_task_are_named_after_it() -> None:
    assert hands.branch_name("chimera-7k2m") == "chimera/chimera-7k2m"
    assert hands.branch_ref("chimera-7k2m") == "refs/heads/chimera/chimera-7k2m"
    assert hands.checkpoint_ref("chimera-7k2m", 3) == "refs/chimera/chimera-7k2m/3"


@pytest.mark.parametrize("task_id", ["", "-x", "a/b", "..", "A", "a b", "a\n", "é", "a" * 61])
def test_a_strange_task_id_makes_no_ref(task_id: str) -> None:
    with pytest.raises(ValueError):
        hands.branch_ref(task_id)
    with pytest.raises(ValueError):
        hands.checkpoint_ref(task_id, 1)


def test_a_commit_has_its_tree_parents_message_and_our_identity(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)

    sha = imported(repository, base, tmp_path / "work", {"new.py": b"x = 1\n"})

    assert repository.exists(sha)
    assert repository.paths(sha) == ("app.py", "new.py")
    newest, oldest = repository.log(sha)
    assert (newest.sha, newest.parents, newest.subject) == (sha, (base,), "Change")
    assert oldest.sha == base
    facts = git(repository.path, "show", "-s", "--format=%an <%ae> %cn <%ce>", sha)
    assert facts == "Chimera <chimera@localhost> Chimera <chimera@localhost>"


def test_a_message_may_hold_anything(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)

    sha = repository.commit(base_tree(repository, base), [base], "-F /etc/passwd\0 \ud800 ü")

    assert repository.log(sha)[0].subject == "-F /etc/passwd ? ü"


def base_tree(repository: Repository, sha: str) -> str:
    return git(repository.path, "rev-parse", f"{sha}^{{tree}}")


def test_a_ref_is_set_only_from_what_it_was(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    ours = imported(repository, base, tmp_path / "ours", {"a": b"ours"})
    theirs = imported(repository, base, tmp_path / "theirs", {"a": b"theirs"})
    name = hands.branch_ref("chimera-1")

    assert repository.ref(name) is None
    assert repository.set_ref(name, base, "")
    assert repository.set_ref(name, ours, base)

    assert not repository.set_ref(name, theirs, base)
    assert not repository.set_ref(name, theirs, "")
    assert repository.ref(name) == ours
    assert repository.set_ref(name, theirs)
    assert repository.ref(name) == theirs


def test_a_ref_that_is_gone_is_not_set_from_what_it_was(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)

    assert not repository.set_ref("refs/heads/chimera/x", base, base)
    assert repository.ref("refs/heads/chimera/x") is None


def test_a_lock_that_a_power_cut_left_on_a_ref_is_no_obstacle(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    name = hands.branch_ref("chimera-1")
    repository.set_ref(name, base, "")
    lock = repository.path / f"{name}.lock"
    lock.touch()
    os.utime(lock, (0, 0))

    assert repository.set_ref(name, base, base)


def test_a_ref_can_not_be_set_to_a_commit_that_is_not_there(tmp_path: Path) -> None:
    repository, _ = based_on(tmp_path)

    with pytest.raises(GitError):
        repository.set_ref("refs/heads/x", "0" * 39 + "1", "")


@pytest.mark.parametrize(
    "name", ["main", "-d", "refs/", "refs/a..b", "refs/a b", "refs/a\n", "refs/x.lock/y", "refs/a/"]
)
def test_a_strange_ref_is_refused(tmp_path: Path, name: str) -> None:
    repository, base = based_on(tmp_path)

    with pytest.raises(GitError, match="not the full name of a ref"):
        repository.set_ref(name, base)
    with pytest.raises(GitError, match="not the full name of a ref"):
        repository.ref(name)


@pytest.mark.parametrize("sha", ["", "HEAD", "main", "--all", "-p", "a" * 39, "A" * 40, "a" * 41])
def test_only_full_names_of_commits_are_taken(tmp_path: Path, sha: str) -> None:
    repository, base = based_on(tmp_path)
    calls = (
        lambda: repository.exists(sha),
        lambda: repository.read(sha, "app.py"),
        lambda: repository.paths(sha),
        lambda: repository.diff(base, sha),
        lambda: repository.changed(sha, base),
        lambda: repository.log(sha),
        lambda: repository.export(sha, tmp_path / "out"),
        lambda: repository.import_tree(tmp_path, base=sha),
        lambda: repository.commit(sha, [], "x"),
        lambda: repository.commit(EMPTY_TREE, [sha], "x"),
    )

    for call in calls:
        with pytest.raises(GitError) as caught:
            call()
        assert caught.value.permanent


def test_a_commit_exists_or_not(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)

    assert repository.exists(base)
    assert not repository.exists("0" * 39 + "1")
    assert not repository.exists(base_tree(repository, base))


def test_a_file_is_read_from_a_commit_and_nothing_else_is(tmp_path: Path) -> None:
    files = {"a/b.py": b"\x00\xff\r\n", "odd\nname é 'q' ": b"odd", ":(top)x": b"colon"}
    repository, base = based_on(tmp_path, files)

    for name, content in files.items():
        assert repository.read(base, name) == content
    for name in ["a", "a/", "a/b", "", "/a/b.py", "a/../a/b.py", "./a/b.py", "x\0y", "\ud800"]:
        assert repository.read(base, name) is None


def test_a_link_is_not_read_as_a_file(tmp_path: Path) -> None:
    repository, _ = based_on(tmp_path, {"real": b"x"})
    (tmp_path / "origin" / "link").symlink_to("/etc/passwd")
    commit_all(tmp_path / "origin")
    repository = Repository.clone_or_fetch(repository.path, str(tmp_path / "origin"), timeout_s=60)

    assert repository.read(repository.head("main"), "link") is None


def test_paths_are_listed_below_a_folder(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path, {"a/b/c": b"", "a/d": b"", "ab": b"", "*": b""})

    assert repository.paths(base) == ("*", "a/b/c", "a/d", "ab")
    assert repository.paths(base, "a") == ("a/b/c", "a/d")
    assert repository.paths(base, "a/b/") == ("a/b/c",)
    assert repository.paths(base, "*") == ("*",)
    assert repository.paths(base, "../x") == ()
    assert repository.paths(base, "nowhere") == ()


def test_what_changed_is_listed_by_path_kind_and_lines(tmp_path: Path) -> None:
    before = {"keep": b"1\n", "edit me\n": b"a\nb\n", "gone": b"x\ny\nz\n", "image": b"\0old"}
    repository, base = based_on(tmp_path, before)
    work = tmp_path / "work"
    repository.export(base, work)
    write(work, {"edit me\n": b"a\nc\nd\n", "image": b"\0new", "fresh": b"x\ny\nz\n"})
    (work / "gone").unlink()
    (work / "keep").unlink()
    (work / "keep").symlink_to("fresh")

    tree = repository.import_tree(work, base=base).tree

    assert sorted(repository.changed(base, tree), key=lambda change: change.path) == [
        Change("edit me\n", "M", 2, 1),
        Change("fresh", "A", 3, 0),
        Change("gone", "D", 0, 3),
        Change("image", "M", 0, 0, is_binary=True),
        Change("keep", "T", 1, 1),
    ]
    assert repository.changed(tree, tree) == ()


def test_a_diff_is_plain_text_without_colour(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path, {"ü.py": b"a\r\nb\r\n"})
    sha = imported(repository, base, tmp_path / "work", {"ü.py": b"a\r\n\xff\x1b[31m\r\n"})

    text = repository.diff(base, sha)

    assert text.startswith("diff --git a/ü.py b/ü.py\n")
    assert "\n-b\r\n" in text
    assert "\n+\ufffd\x1b[31m\r\n" in text
    assert "\x1b[m" not in text


def test_a_diff_is_cut_at_its_limit_and_says_so(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    sha = imported(repository, base, tmp_path / "work", {"big": b"line\n" * 100_000})

    text = repository.diff(base, sha, limit_bytes=10_000)

    assert len(text) < 10_200
    assert "limit reached" in text


def test_attributes_in_the_tree_do_not_hide_a_change(tmp_path: Path) -> None:
    repository, base = based_on(
        tmp_path, {"app.py": b"a\n", ".gitattributes": b"*.py binary -diff"}
    )
    sha = imported(repository, base, tmp_path / "work", {"app.py": b"b\n"})

    assert "+b" in repository.diff(base, sha)
    assert not repository.changed(base, sha)[0].is_binary


def test_a_folder_without_a_repository_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="there is no repository at") as caught:
        Repository.open(tmp_path)

    assert caught.value.permanent


def test_a_repository_is_opened_where_one_was_made(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)

    assert Repository.open(repository.path).exists(base)


def test_a_plain_folder_becomes_a_repository_of_one_branch(tmp_path: Path) -> None:
    folder, made = tmp_path / "demo", tmp_path / "demo.git"
    write(folder, {"shop.py": b"x = 1\n", ".gitignore": b"*.sqlite3\n", "a.sqlite3": b"data"})
    write(folder, {"__pycache__/shop.pyc": b"", ".git/config": b"junk", "tests/t.py": b""})

    first = create_from_folder(folder, made, message="The bookshop")

    repository = Repository.open(made)
    assert repository.paths(first) == (".gitignore", "shop.py", "tests/t.py")
    assert repository.ref("refs/heads/main") == first
    git(tmp_path, "clone", "-q", str(made), "copy")
    assert content_of(tmp_path / "copy")["shop.py"] == b"x = 1\n"


def test_a_folder_that_did_not_change_makes_no_commit(tmp_path: Path) -> None:
    folder, made = tmp_path / "demo", tmp_path / "demo.git"
    write(folder, {"shop.py": b"x = 1\n"})

    assert create_from_folder(folder, made) == create_from_folder(folder, made)


def test_a_folder_that_changed_adds_a_commit(tmp_path: Path) -> None:
    folder, made = tmp_path / "demo", tmp_path / "demo.git"
    write(folder, {"shop.py": b"x = 1\n", "old.py": b""})
    first = create_from_folder(folder, made)
    write(folder, {"shop.py": b"x = 2\n"})
    (folder / "old.py").unlink()

    second = create_from_folder(folder, made)

    repository = Repository.open(made)
    assert repository.log(second)[0].parents == (first,)
    assert repository.paths(second) == ("shop.py",)
    assert repository.ref("refs/heads/main") == second
