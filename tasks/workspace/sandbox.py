"""The sandbox: what a child that runs somebody else's code may see, by bubblewrap.

Tried with bubblewrap 0.8 on Linux 6, as root and as an ordinary user. Such a child sees /usr and
Python read-only, its workspace at /workspace, an empty /tmp, and no network unless it is given one.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tasks.workspace.process import Command, ProcessError, output

WARDEN = Path(__file__).with_name("warden.py")
WORKSPACE = "/workspace"
FILE_LIMIT_BYTES = 2 * 1024**3
MAX_PROCESSES = 4096  # threads count; not enforced by the kernel where the service is root
TMP_LIMIT_BYTES = 2 * 1024**3
# Read-only and present on every system where they exist; nothing here holds a secret.
_SYSTEM = (
    "/usr",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ssl",
    "/etc/ld.so.cache",
    "/etc/mime.types",
)
_NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ca-certificates")
_KERNELS_OWN = ("sys", "sysrq-trigger", "irq", "bus", "fs", "scsi", "acpi", "mtrr", "driver")
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


class SandboxError(Exception):
    """The sandbox cannot be used here; `permanent` unless trying again might help."""

    permanent = True


class SandboxBrokenError(SandboxError):
    """The sandbox is there and did not work this time."""

    permanent = False


class Network(StrEnum):
    """What a child may reach."""

    NONE = "none"  # a loopback of its own, with nothing on it
    ROOM = "room"  # the loopback of the room that it enters
    HOST = "host"  # this machine's network


@dataclass(frozen=True)
class Mount:
    """A host path that the child sees at `target`; read-only unless said otherwise."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Jail:
    """What one child may see and reach."""

    workspace: Path
    writable: bool = False  # the workspace
    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()  # folders before the system's in PATH, as the child sees them
    network: Network = Network.NONE
    is_browser: bool = False  # Chromium makes its own inner sandbox and refuses to be root


@dataclass(frozen=True)
class Sandbox:
    """Turns a call into one that runs inside. `bwrap` None = no sandbox, chosen or excused."""

    bwrap: str | None

    @property
    def is_on(self) -> bool:
        """Say whether children are contained."""
        return self.bwrap is not None

    def inside(self, jail: Jail, path: Path) -> str:
        """Return how the child sees a host path in its workspace or under one of its mounts."""
        if not self.is_on:
            return str(path)
        for mount in (Mount(jail.workspace, WORKSPACE), *jail.mounts):
            if path.is_relative_to(mount.source):
                return str(Path(mount.target) / path.relative_to(mount.source))
        return str(path)

    def command(self, jail: Jail, argv: Sequence[str], *, room_pid: int | None = None) -> Command:
        """Return the call that runs `argv` in `jail`, in the network of `room_pid` if given."""
        env = {**_base_env(jail), **jail.env}
        if self.bwrap is None:
            return Command((*_warden(), *argv), env, jail.workspace)
        enter = _enter(room_pid) if room_pid is not None else ()
        limits = (
            "prlimit",
            "--core=0",
            f"--fsize={FILE_LIMIT_BYTES}",
            f"--nproc={MAX_PROCESSES}",
            "--",
        )
        words = (*enter, self.bwrap, *_bwrap_options(jail), "--", *limits, *argv)
        # Given by Popen, never by --setenv or --clearenv: bwrap's own process keeps what it was
        # started with, readable inside at /proc/1/environ.
        return Command(words, env, Path("/"))


def find(mode: str) -> Sandbox:
    """Return the sandbox for `mode`: "off" is none, "auto" is bubblewrap or SandboxError."""
    if mode == "off":
        return Sandbox(None)
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxError(
            "bubblewrap is not installed: `apt-get install bubblewrap`, or set "
            "CHIMERA_SANDBOX=off to run other people's code without a sandbox"
        )
    sandbox = Sandbox(bwrap)
    try:
        output(sandbox.command(Jail(Path("/usr")), ("true",)), timeout_s=10)
    except ProcessError as error:
        raise SandboxBrokenError(
            f"bubblewrap does not work here ({error}); user namespaces may be switched off. "
            "Set CHIMERA_SANDBOX=off to run other people's code without a sandbox"
        ) from error
    return sandbox


def is_visible(path: Path) -> bool:
    """Say whether every child sees this host path anyway."""
    roots = [Path("/usr"), *(mount.source for mount in python_mounts())]
    return any(path.is_relative_to(root) for root in roots)


def python_mounts() -> tuple[Mount, ...]:
    """Return the mounts that let the child run Chimera's own Python."""
    folders = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(sys.prefix)}
    outside = [folder for folder in folders if not folder.is_relative_to("/usr")]
    # Parents first: a later mount would hide an earlier one below it.
    return tuple(Mount(folder, str(folder)) for folder in sorted(outside))


def _base_env(jail: Jail) -> dict[str, str]:
    folders = (*jail.path, "/usr/local/bin", "/usr/bin", "/bin", f"{sys.prefix}/bin")
    return {
        "PATH": ":".join(folders),
        "HOME": "/tmp",  # noqa: S108 - the child's own, empty
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _bwrap_options(jail: Jail) -> list[str]:
    words = [
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]
    words += ["--unshare-net"] if jail.network == Network.NONE else []
    words += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words += ["--uid", "1000", "--gid", "1000"] if jail.is_browser else ["--disable-userns"]
    for path in _SYSTEM + (_NETWORK if jail.network == Network.HOST else ()):
        words += ["--ro-bind-try", path, path]
    words += _merged_usr()
    words += ["--proc", "/proc", *_kernel_read_only(jail), "--dev", "/dev"]
    words += ["--size", str(TMP_LIMIT_BYTES), "--tmpfs", "/tmp"]  # noqa: S108
    workspace = Mount(jail.workspace, WORKSPACE, jail.writable)
    for mount in (*python_mounts(), workspace, *jail.mounts):
        words += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
    return [*words, "--chdir", WORKSPACE]


def _kernel_read_only(jail: Jail) -> list[str]:
    """Return the options that make the kernel's settings read-only, which bubblewrap 0.8 does not.

    The kernel lets its own root write to them without any capability, whatever the namespace: a
    child of a service that runs as root could name a program that the kernel then starts outside
    (kernel.core_pattern). Chromium must write into /proc/self to make namespaces of its own, so
    there only what is the kernel's is covered, by what is seen here.
    """
    if not jail.is_browser:
        return ["--remount-ro", "/proc"]
    covered = [f"/proc/{name}" for name in _KERNELS_OWN if Path(f"/proc/{name}").exists()]
    return [word for path in covered for word in ("--ro-bind", path, path)]


def _merged_usr() -> list[str]:
    """Repeat the host's /bin and /lib: links into /usr on current systems, folders on older."""
    words: list[str] = []
    for name in _MERGED:
        path = Path("/") / name
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    return words


def _warden() -> tuple[str, ...]:
    """Return the words that have a program's every descendant end with it, or with its caller."""
    is_linux = sys.platform == "linux"
    return (sys.executable, "-I", "-S", "-B", str(WARDEN)) if is_linux else ()


def _enter(room_pid: int) -> tuple[str, ...]:
    return ("nsenter", "--user", "--net", "--preserve-credentials", f"--target={room_pid}", "--")
