"""Repositories and folders for the tests of the Git hands, made by a plain Git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tasks.workspace.git import Repository
from tasks.workspace.plumbing import ATTRIBUTES

ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    **{f"GIT_{role}_NAME": "Ada" for role in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{role}_EMAIL": "ada@example.org" for role in ("AUTHOR", "COMMITTER")},
}


def git(folder: Path, *arguments: str) -> str:
    """Run Git as a user would, with no care at all."""
    return subprocess.run(
        ("git", *arguments), cwd=folder, env=ENV, check=True, capture_output=True, text=True
    ).stdout.strip()


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def make_origin(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    """Make a repository whose branch `main` has one commit of `files`."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    # Content is committed as it is; what the attributes do later is for the tests to see.
    (folder / ".git" / "info" / "attributes").write_text(ATTRIBUTES)
    write(folder, {"app.py": b"print('hello')\n"} if files is None else files)
    return commit_all(folder)


def commit_all(folder: Path, message: str = "change") -> Path:
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return folder


def fetch(folder: Path, origin: Path | str) -> Repository:
    return Repository.clone_or_fetch(folder / "shop.git", str(origin), timeout_s=60)


def based_on(tmp_path: Path, files: dict[str, bytes] | None = None) -> tuple[Repository, str]:
    """Return a service repository and the head of its origin, which holds `files`."""
    repository = fetch(tmp_path, make_origin(tmp_path / "origin", files))
    return repository, repository.head("main")


def content_of(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds, links as `-> target`, without `.git`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.split("/")[0] == ".git" or (path.is_dir() and not path.is_symlink()):
            continue
        is_link = path.is_symlink()
        found[name] = b"-> " + os.fsencode(path.readlink()) if is_link else path.read_bytes()
    return found


def paths_after(repository: Repository, base: str, work: Path) -> set[str]:
    return set(repository.paths(repository.import_tree(work, base=base).tree))


def reasons(repository: Repository, base: str, work: Path) -> dict[str, str]:
    skipped = repository.import_tree(work, base=base).skipped
    return {each.path: each.reason for each in skipped}
