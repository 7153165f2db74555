"""Upkeep of a project's repository: what is dropped, and what no collection ever loses."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tasks.workspace import upkeep
from tasks.workspace.git import Repository, branch_ref, checkpoint_ref
from tasks.workspace.plumbing import GitError, locked
from tests.unit.git_samples import based_on, git

ONE, TWO = "chimera-1111111111", "chimera-2222222222"
MONTH_S = 30 * 24 * 3600.0


def draft(repository: Repository, base: str, content: str, task_id: str, fence: int) -> str:
    """Commit one file on the base, as a claim of a task does."""
    blob = git_in(repository, "hash-object", "-w", "--stdin", stdin=content)
    tree = git_in(repository, "mktree", stdin=f"100644 blob {blob}\tfile\n")
    sha = repository.commit(tree, [base], content)
    repository.set_ref(checkpoint_ref(task_id, fence), sha)
    return sha


def git_in(repository: Repository, *arguments: str, stdin: str = "") -> str:
    return (
        upkeep.call(upkeep.command(repository.path, *arguments), stdin=stdin.encode())
        .decode()
        .strip()
    )


def age_objects(repository: Repository, seconds: float) -> None:
    """Let every loose object be as old as that."""
    then = time.time() - seconds
    for path in (repository.path / "objects").rglob("*"):
        os.utime(path, (then, then))


def test_checkpoints_are_listed_and_branches_are_not(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    first = draft(repository, base, "one", ONE, 1)
    second = draft(repository, base, "two", ONE, 12)
    repository.set_ref(branch_ref(ONE), second)
    found = upkeep.checkpoints(repository.path)
    assert {(item.task_id, item.fence, item.sha) for item in found} == {
        (ONE, 1, first),
        (ONE, 12, second),
    }


def test_what_is_dropped_is_gone_and_nothing_else(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    for fence in (1, 2, 3):
        draft(repository, base, f"draft {fence}", ONE, fence)
    draft(repository, base, "other", TWO, 1)
    repository.set_ref(branch_ref(ONE), base)
    git(repository.path, "pack-refs", "--all")  # as a Git of old may have left them
    old = [item for item in upkeep.checkpoints(repository.path) if item.fence < 3]
    upkeep.drop(repository.path, [item for item in old if item.task_id == ONE])
    assert {item.ref for item in upkeep.checkpoints(repository.path)} == {
        checkpoint_ref(ONE, 3),
        checkpoint_ref(TWO, 1),
    }
    assert repository.ref(branch_ref(ONE)) == base
    assert repository.head("main") == base


def test_a_checkpoint_that_has_moved_is_kept_with_the_others(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    draft(repository, base, "one", ONE, 1)
    draft(repository, base, "two", ONE, 2)
    seen = upkeep.checkpoints(repository.path)
    draft(repository, base, "three", ONE, 2)
    with pytest.raises(GitError):
        upkeep.drop(repository.path, seen)
    assert len(upkeep.checkpoints(repository.path)) == 2


def test_nothing_is_dropped_while_another_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, base = based_on(tmp_path)
    draft(repository, base, "one", ONE, 1)
    monkeypatch.setattr(upkeep, "LOCK_TIMEOUT_S", 0.01)
    with locked(repository.path, 1), pytest.raises(GitError, match="was locked"):
        upkeep.drop(repository.path, upkeep.checkpoints(repository.path))
    assert len(upkeep.checkpoints(repository.path)) == 1


def test_a_collection_loses_only_what_is_unreachable_and_old(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    dropped = draft(repository, base, "dropped", ONE, 1)
    kept = draft(repository, base, "kept", ONE, 2)
    branch = draft(repository, base, "branch", TWO, 1)
    repository.set_ref(branch_ref(TWO), branch)
    upkeep.drop(repository.path, [i for i in upkeep.checkpoints(repository.path) if i.fence == 1])
    age_objects(repository, MONTH_S)
    fresh = repository.commit(git_in(repository, "rev-parse", f"{base}^{{tree}}"), [base], "fresh")
    assert upkeep.is_due(repository.path, time.time())
    upkeep.collect(repository.path)
    assert not repository.exists(dropped)
    assert all(repository.exists(sha) for sha in (base, kept, branch, fresh))
    assert repository.head("main") == base


def test_a_collection_packs_the_refs_which_stay_what_they_are(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    first = draft(repository, base, "first", ONE, 1)
    repository.set_ref(branch_ref(ONE), first)
    before = git_in(repository, "for-each-ref")
    upkeep.collect(repository.path)
    assert [path for path in (repository.path / "refs").rglob("*") if path.is_file()] == []
    assert git_in(repository, "for-each-ref") == before
    second = draft(repository, first, "second", ONE, 2)
    repository.set_ref(branch_ref(ONE), second)
    assert repository.ref(branch_ref(ONE)) == second


def test_refs_are_not_packed_while_another_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, _ = based_on(tmp_path)
    monkeypatch.setattr(upkeep, "LOCK_TIMEOUT_S", 0.1)
    with locked(repository.path, 5), pytest.raises(GitError, match="was locked"):
        upkeep.collect(repository.path)
    assert not (repository.path / "packed-refs").exists()


def test_a_repository_is_collected_once_a_day(tmp_path: Path) -> None:
    repository, _ = based_on(tmp_path)
    upkeep.collect(repository.path)
    now_s = time.time()
    assert not upkeep.is_due(repository.path, now_s + 23 * 3600)
    assert upkeep.is_due(repository.path, now_s + 25 * 3600)


def test_a_collection_that_is_under_way_is_left_to_itself(tmp_path: Path) -> None:
    repository, _ = based_on(tmp_path)
    (repository.path / "gc.pid").write_text(f"{os.getpid()} {os.uname().nodename}")
    with pytest.raises(GitError, match="already running"):
        upkeep.collect(repository.path)
