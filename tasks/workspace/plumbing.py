"""The one way of calling Git: nothing that an agent or a stranger wrote can make it run a program.

Git reads settings from many places. Here it sees none of them but the file of a repository that
the service itself made, it is told where that repository is, and the settings that start programs
are overridden on each call.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.workspace import leash
from tasks.workspace.process import Command, ProcessError, output

TIMEOUT_S = 120.0  # a local call takes milliseconds; a busy disk may take long
IDENTITY = {"NAME": "Chimera", "EMAIL": "chimera@localhost"}
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/homebrew/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_ALLOW_PROTOCOL": "file:http:https:ssh",
    "GIT_NO_REPLACE_OBJECTS": "1",
    **{f"GIT_{role}_{key}": IDENTITY[key] for role in ("AUTHOR", "COMMITTER") for key in IDENTITY},
}
OVERRIDES = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.autocrlf=false",
    "core.quotePath=false",
    "core.filesRefLockTimeout=5000",  # ms: a ref that is just being written is waited for
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "credential.helper=",
    "gc.auto=0",  # it would go on in the background, after its caller has ended
    "maintenance.auto=false",
)
# Above all .gitattributes files: content is bytes, whatever a commit says about it.
ATTRIBUTES = "* -text !eol !ident !filter !diff !merge !working-tree-encoding !export-subst\n"

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s']+@")
_PERMANENT = re.compile(
    r"not appear to be a git repo|not a git repository|repository .* not found|does not exist|"
    r"dubious ownership|mismatched algorithms|authentication failed|could not read username|"
    r"permission denied|no such file|returned error: 40[134]|unsupported protocol|not allowed",
    re.IGNORECASE,
)


class GitError(Exception):
    """Git refused; `permanent` says that the same call can't work later either.

    `returncode` is Git's own, None where it did not run to its end or was not asked.
    """

    def __init__(
        self, message: str, *, permanent: bool = False, returncode: int | None = None
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.returncode = returncode


def command(
    git_dir: Path,
    *arguments: str,
    settings: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    work_tree: Path | None = None,
    pass_fds: tuple[int, ...] = (),
) -> Command:
    """Return the hardened call of Git on `git_dir`; `settings` are name=value."""
    options = [word for setting in OVERRIDES + settings for word in ("-c", setting)]
    env = {**ENVIRONMENT, "GIT_DIR": str(git_dir), **(environment or {})}
    if work_tree:
        env["GIT_WORK_TREE"] = str(work_tree)
    cwd = work_tree or git_dir
    words = (*leash.prefix(), "git", "--no-pager", *options, *arguments)
    return Command(words, env, cwd, pass_fds)


def call(call_of: Command, *, stdin: bytes = b"", timeout_s: float = TIMEOUT_S) -> bytes:
    """Run a call of Git and return what it printed. Blocks. Raises GitError."""
    try:
        return output(call_of, timeout_s=timeout_s, stdin=stdin)
    except ProcessError as error:
        raise failure(str(error), error.returncode) from error


def failure(message: str, returncode: int | None) -> GitError:
    """Return the error for what Git complained about, without the credentials of any URL in it."""
    text = _CREDENTIALS.sub("***@", message)
    is_permanent = returncode is not None and _PERMANENT.search(text) is not None
    return GitError(text, permanent=is_permanent, returncode=returncode)


@contextmanager
def locked(path: Path, timeout_s: float) -> Iterator[int]:
    """Hold the lock file beside `path` against all other processes; gives its descriptor.

    Hand the descriptor to the children that work under the lock: it is then held until they have
    ended, even if their parent is killed. Raises GitError after `timeout_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    limit = time.monotonic() + timeout_s
    with path.with_name(path.name + ".lock").open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > limit:
                    raise GitError(f"{path.name} was locked for {timeout_s:g} s") from error
            time.sleep(0.02)
        yield file.fileno()
