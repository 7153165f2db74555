"""What one host has made reaches another by the project's remote."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.workspace import sharing
from tasks.workspace.git import GitError, Repository, checkpoint_ref
from tests.unit.git_samples import git, make_origin

TASK = "chimera-1"


def made_here(repository: Repository, fence: int = 1) -> str:
    """Commit something for a task, as a phase does."""
    base = repository.head("main")
    sha = repository.commit(f"{git(repository.path, 'rev-parse', base + '^{tree}')}", [base], "A")
    repository.set_ref(checkpoint_ref(TASK, fence), sha)
    return sha


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    return make_origin(tmp_path / "origin")


def host(folder: Path, origin: Path) -> Repository:
    """Return the service's repository as a host has it."""
    return Repository.clone_or_fetch(folder / "shop.git", str(origin), timeout_s=60)


def test_what_one_host_made_is_found_by_another(tmp_path: Path, origin: Path) -> None:
    one, other = host(tmp_path / "one", origin), host(tmp_path / "other", origin)
    before = git(origin, "for-each-ref", "refs/heads")
    sha = made_here(one)
    with pytest.raises(GitError, match=f"has not got {sha[:10]}"):
        sharing.require(other, [sha])
    sharing.push(one, str(origin), TASK, 1, 60)
    sharing.pull(other, str(origin), TASK, 60)
    sharing.require(other, [sha])
    assert git(origin, "rev-parse", checkpoint_ref(TASK, 1)) == sha
    assert git(origin, "for-each-ref", "refs/heads") == before


def test_a_claim_moves_its_own_ref_and_no_other(tmp_path: Path, origin: Path) -> None:
    one = host(tmp_path / "one", origin)
    first = made_here(one)
    sharing.push(one, str(origin), TASK, 1, 60)
    made_here(one, fence=2)
    again = one.commit(git(one.path, "rev-parse", f"{first}^{{tree}}"), [], "Anew")
    one.set_ref(checkpoint_ref(TASK, 2), again)
    sharing.push(one, str(origin), TASK, 2, 60)
    assert git(origin, "rev-parse", checkpoint_ref(TASK, 1)) == first
    assert git(origin, "rev-parse", checkpoint_ref(TASK, 2)) == again


def test_only_the_refs_of_the_task_are_fetched(tmp_path: Path, origin: Path) -> None:
    one, other = host(tmp_path / "one", origin), host(tmp_path / "other", origin)
    made_here(one)
    sharing.push(one, str(origin), TASK, 1, 60)
    git(origin, "update-ref", "refs/chimera/chimera-2/1", "HEAD")
    git(origin, "update-ref", "refs/heads/chimera/chimera-1", "HEAD")
    sharing.pull(other, str(origin), TASK, 60)
    assert other.ref(checkpoint_ref(TASK, 1)) is not None
    assert other.ref("refs/chimera/chimera-2/1") is None
    assert other.ref("refs/heads/chimera/chimera-1") is None


def test_a_remote_that_takes_nothing_is_an_error(tmp_path: Path, origin: Path) -> None:
    one = host(tmp_path / "one", origin)
    made_here(one)
    origin.rename(tmp_path / "gone")
    with pytest.raises(GitError, match="origin"):
        sharing.push(one, str(origin), TASK, 1, 60)
