"""The folder that an agent works in: a repository of its own that shares nothing with ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.workspace.folder import Folder, remove
from tasks.workspace.git import Repository, Skipped
from tasks.workspace.plumbing import ATTRIBUTES, IDENTITY, call, command

__all__ = ["Workspace", "create", "remove"]

BRANCH = "main"
MESSAGE = "The state that this work starts from"
QUICK = ("core.fsync=none", "core.looseCompression=0", "commit.gpgSign=false")


@dataclass(frozen=True)
class Workspace:
    """A folder with the content of one commit, and what of it could not be put there."""

    folder: Path
    base_sha: str
    skipped: tuple[Skipped, ...] = ()

    def add_file(self, path: str, content: bytes) -> None:
        """Write a file, whatever an agent may have put in its way; see `Folder.write`."""
        with Folder(self.folder) as folder:
            folder.write(path.encode(), content)

    def remove(self) -> None:
        """Delete the workspace with all that an agent left in it; see `folder.remove`."""
        remove(self.folder)


def create(repository: Repository, sha: str, folder: Path) -> Workspace:
    """Lay a commit's content into an empty or a new folder, under a fresh Git repository.

    That has one commit, no remote and no object of ours but the content, so nothing hidden can
    be found in it. It serves the agent alone: nobody here ever reads it again. Raises GitError.
    """
    skipped = repository.export(sha, folder)
    _give_history(folder.resolve())
    return Workspace(folder.resolve(), sha, skipped)


def _give_history(folder: Path) -> None:
    own = folder / ".git"
    own.mkdir()
    call(command(own, "init", "--quiet", "--template=", f"--initial-branch={BRANCH}"))
    (own / "info").mkdir()
    (own / "info" / "attributes").write_text(ATTRIBUTES)
    identity = f"[user]\n\tname = {IDENTITY['NAME']}\n\temail = {IDENTITY['EMAIL']}\n"
    (own / "config").write_text(
        f"[core]\n\trepositoryformatversion = 0\n\tbare = false\n{identity}"
    )
    # What is ignored and yet tracked is added too, hence the force.
    for arguments in (
        ("add", "--force", "--all", "--", "."),
        ("commit", "--quiet", "--allow-empty", "--no-verify", "-m", MESSAGE),
    ):
        call(command(own, *arguments, settings=QUICK, work_tree=folder))
