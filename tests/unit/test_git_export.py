"""Trees leave Git as folders, and nothing in them leaves the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.workspace.git import GitError, Repository
from tests.unit.git_samples import based_on, commit_all, content_of, fetch, git, make_origin


def test_links_that_lead_out_are_not_exported_and_named(tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "origin", {"pkg/mod.py": b""})
    links = {"passwd": "/etc/passwd", "up": "../up", "pkg/fine": "../pkg/mod.py", "self": "."}
    for name, target in links.items():
        (origin / name).symlink_to(target)
    (origin / "out").symlink_to("self/../../secret")
    repository = fetch(tmp_path, commit_all(origin))

    skipped = repository.export(repository.head("main"), tmp_path / "out")

    assert {each.path for each in skipped} == {"passwd", "up", "out"}
    assert content_of(tmp_path / "out") == {
        "pkg/fine": b"-> ../pkg/mod.py",
        "pkg/mod.py": b"",
        "self": b"-> .",
    }


def hand_made_tree(repository: Repository, *rows: str) -> str:
    """Make a tree that Git's own commands would not make; a row is mode, name, content or sha."""
    body = b""
    for row in rows:
        mode, name, sha = row.split(" ")
        body += f"{mode} {name}\0".encode() + bytes.fromhex(sha)
    source = repository.path / "tree"
    source.write_bytes(body)
    return git(repository.path, "hash-object", "-t", "tree", "-w", "--literally", "tree")


@pytest.mark.parametrize(
    "name", ["../escape", "/etc/x", ".git/hooks/x", ".GIT/x", "a/../../x", ".."]
)
def test_a_forged_tree_writes_nothing_elsewhere(tmp_path: Path, name: str) -> None:
    repository, base = based_on(tmp_path)
    blob = git(repository.path, "rev-parse", f"{base}:app.py")
    forged = hand_made_tree(repository, f"100644 {name} {blob}")

    with pytest.raises(GitError, match="not safe to write") as caught:
        repository.export(forged, tmp_path / "a" / "b" / "out")

    assert caught.value.permanent
    assert not (tmp_path / "a" / "b" / "escape").exists()


def test_a_forged_tree_can_not_write_through_its_own_link(tmp_path: Path) -> None:
    repository, base = based_on(tmp_path)
    blob = git(repository.path, "rev-parse", f"{base}:app.py")
    (repository.path / "target").write_text(str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    target = git(repository.path, "hash-object", "-w", "target")
    inner = hand_made_tree(repository, f"100644 file {blob}")
    forged = hand_made_tree(repository, f"120000 x {target}", f"40000 x {inner}")

    repository.export(forged, tmp_path / "out")

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert content_of(tmp_path / "out") == {"x/file": b"print('hello')\n"}
