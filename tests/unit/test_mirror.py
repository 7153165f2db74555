"""A repository as one file that fits the rows, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.workspace import mirror
from tasks.workspace.git import Repository, branch_ref, checkpoint_ref
from tasks.workspace.mirror import Standing
from tasks.workspace.plumbing import GitError
from tests.unit.git_samples import based_on, git

ONE, TWO = "chimera-1111111111", "chimera-2222222222"


def draft(repository: Repository, base: str, name: str) -> str:
    """Commit an empty tree on the base; no ref points to it."""
    return repository.commit("4b825dc642cb6eb9a060e54bf8d69288fbee4904", [base], name)


def refs(path: Path) -> dict[str, str]:
    lines = git(path, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split() for line in lines)


def there_and_back(repository: Repository, folder: Path, standings: dict[str, Standing]) -> Path:
    assert mirror.bundle(repository.path, folder / "x.bundle", standings)
    mirror.unbundle(folder / "x.bundle", folder / "back.git")
    return folder / "back.git"


def test_every_commit_that_a_row_names_is_kept(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    old, new = draft(repository, base, "old"), draft(repository, base, "new")
    repository.set_ref(checkpoint_ref(ONE, 1), new)  # the row is older, and names `old`
    back = there_and_back(repository, tmp_path, {ONE: Standing(1, old, (base, old, old, ""))})
    assert git(back, "cat-file", "-t", old) == "commit"
    assert refs(back) == {
        "refs/remotes/origin/main": base,
        branch_ref(ONE): old,
        checkpoint_ref(ONE, 1): new,
    }
    git(back, "fsck", "--strict")


def test_what_came_after_the_rows_is_left_out(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    sha = draft(repository, base, "work")
    for ref in (checkpoint_ref(ONE, 1), checkpoint_ref(ONE, 2), checkpoint_ref(TWO, 1)):
        repository.set_ref(ref, sha)
    for task_id in (ONE, TWO):
        repository.set_ref(branch_ref(task_id), sha)
    back = there_and_back(repository, tmp_path, {ONE: Standing(1, "", ("", "", "", ""))})
    assert set(refs(back)) == {"refs/remotes/origin/main", checkpoint_ref(ONE, 1)}


def test_a_commit_that_is_gone_already_is_no_obstacle(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    gone = "d" * 40
    back = there_and_back(repository, tmp_path, {ONE: Standing(1, gone, (base, gone, "", ""))})
    assert set(refs(back)) == {"refs/remotes/origin/main"}


def test_the_repository_itself_is_not_changed(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    sha = draft(repository, base, "work")
    before = refs(repository.path)
    mirror.bundle(repository.path, tmp_path / "x.bundle", {ONE: Standing(1, sha, (sha,))})
    assert refs(repository.path) == before
    assert sorted(path.name for path in tmp_path.iterdir() if "mirror" in path.name) == []


def test_a_repository_without_anything_is_no_file(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "empty.git")
    assert mirror.bundle(tmp_path / "empty.git", tmp_path / "x.bundle", {}) is False
    assert not (tmp_path / "x.bundle").exists()


def test_what_came_back_can_be_worked_on_and_fetched_into(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    back = there_and_back(repository, tmp_path, {})
    again = Repository.clone_or_fetch(back, str(tmp_path / "origin"), timeout_s=60)
    assert again.head("main") == base
    assert again.read(base, "app.py") == b"print('hello')\n"


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bundle").write_text("# v2 git bundle\nnonsense\n")
    with pytest.raises(GitError):
        mirror.unbundle(tmp_path / "x.bundle", tmp_path / "back.git")
