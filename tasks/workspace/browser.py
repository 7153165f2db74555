"""The browser: finding it, and running one proof in it. The one door to Playwright."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.addresses import is_loopback
from tasks.workspace.process import Completed, Log, run, spent_in_children
from tasks.workspace.sandbox import Jail, Mount, Network, Sandbox
from tasks.workspace.site import Room

PLUGIN = Path(__file__).with_name("proof_plugin.py")
PLUGIN_NAME = "chimera_proof.py"
RESULTS, TESTS, PLUGINS, VIDEO = "/results", "/proof", "/plugin", "/video"
SYSTEM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class BrowserError(Exception):
    """No browser can be used here."""

    permanent = True


class BrowserStartError(Exception):
    """The browser did not start this time."""


@dataclass(frozen=True)
class ProofOrder:
    """One run of a test file (relative to `tests`) against a site; evidence goes to `results`."""

    tests: Path
    test_path: str
    results: Path
    chromium: str
    cache: Path  # ours, for the link to ffmpeg that Playwright looks for
    timeout_s: float


def find_chromium(chosen: str) -> str:
    """Return the path of the browser: the chosen one, the system's, or Playwright's own.

    Raises BrowserError.
    """
    if chosen:
        found = shutil.which(chosen)
        if found is None:
            raise BrowserError(f"CHIMERA_CHROMIUM={chosen} is not a program on this machine")
        return found
    for name in SYSTEM_NAMES:
        if found := shutil.which(name):
            return found
    for folder in _playwright_folders():
        for pattern in (
            "chromium-*/chrome-linux*/chrome",
            "chromium-*/chrome-mac*/*/Contents/MacOS/*",
        ):
            for path in sorted(folder.glob(pattern), reverse=True):
                return str(path)
    raise BrowserError(
        "No Chromium found: `apt-get install chromium`, or `playwright install chromium`, or name "
        "one in CHIMERA_CHROMIUM"
    )


def resolver_rules(room: Room) -> str:
    """Return the flag that lets the browser resolve the site under test and nothing else.

    In a room, another host than this machine is found on its loopback, behind its door.
    """
    host = urlsplit(room.base_url).hostname or ""
    site = "" if is_loopback(host) else f"MAP {host} 127.0.0.1, "
    outside = "" if is_loopback(host) else f", EXCLUDE {host}"
    return (
        f"--host-resolver-rules={site if room.pid else ''}"
        "MAP * ~NOTFOUND, EXCLUDE *.localhost, EXCLUDE localhost, EXCLUDE 127.0.0.1"
        f"{'' if room.pid else outside}"
    )


def prove(
    sandbox: Sandbox, order: ProofOrder, room: Room, log: Log, should_stop: Callable[[], bool]
) -> Completed:
    """Run the test in a browser that reaches nothing but the room's site. Blocks.

    What happened is in the files of `order.results`; see `tasks.workspace.proof`.
    """
    order.results.mkdir(parents=True, exist_ok=True)
    network = Network.ROOM if room.pid else Network.NONE
    args = [*FLAGS, resolver_rules(room)]
    jail = _jail(sandbox, order, _plugin_folder(order.cache), network, args)
    argv = _pytest_call(sandbox, jail, order, room.base_url)
    command = sandbox.command(jail, argv, room_pid=room.pid)
    return run(command, timeout_s=order.timeout_s, log=log, should_stop=should_stop)


def _plugin_folder(cache: Path) -> Path:
    """Return a folder that holds the plugin under its name and nothing else. Safe to race."""
    content = PLUGIN.read_bytes()
    folder = cache / f"plugin-{hashlib.sha256(content).hexdigest()[:16]}"
    if not (folder / PLUGIN_NAME).exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder.with_name(f"{folder.name}.{os.getpid()}.{threading.get_ident()}")
        draft.write_bytes(content)
        draft.replace(folder / PLUGIN_NAME)
    return folder


@contextlib.contextmanager
def slot(folder: Path, count: int, check: Callable[[], object]) -> Iterator[None]:
    """Hold one of `count` places for a browser on this host; waits for a free one.

    A place is a file lock, so it is free again when its holder dies, however it dies. `check` is
    called while waiting, and ends that by what it raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [(folder / f"browser-{number}.lock").open("w") for number in range(count)]
    try:
        with spent_in_children():
            while not any(_try_lock(file.fileno()) for file in files):
                check()
                time.sleep(0.05)
        yield
    finally:
        for file in files:
            file.close()


def has_ffmpeg() -> bool:
    """Say whether videos can be recorded."""
    return shutil.which("ffmpeg") is not None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _jail(
    sandbox: Sandbox, order: ProofOrder, plugins: Path, network: Network, args: list[str]
) -> Jail:
    launch = {
        "executable_path": order.chromium,
        "chromium_sandbox": sandbox.is_on or os.geteuid() != 0,
        "args": args,
        "headless": True,
    }
    mounts = [
        Mount(order.results, RESULTS, writable=True),
        Mount(plugins, PLUGINS),
        *_browser_mounts(order.chromium),
    ]
    env = {"CHIMERA_BROWSER": json.dumps(launch), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    if video := _video_folder(order.cache):
        mounts.append(Mount(video, VIDEO))
        env["PLAYWRIGHT_BROWSERS_PATH"] = VIDEO if sandbox.is_on else str(video)
    jail = Jail(order.tests, mounts=tuple(mounts), network=network, is_browser=True)
    env["PYTHONPATH"] = sandbox.inside(jail, plugins)
    env["CHIMERA_PROOF_REPORT"] = sandbox.inside(jail, order.results / "proof.json")
    return replace(jail, env=env)


def _pytest_call(sandbox: Sandbox, jail: Jail, order: ProofOrder, base_url: str) -> tuple[str, ...]:
    results = sandbox.inside(jail, order.results)
    video = "on" if "PLAYWRIGHT_BROWSERS_PATH" in jail.env else "off"
    return (
        *(
            sys.executable,
            "-B",
            "-m",
            "pytest",
            "-q",
            "--tb=short",
            "--color=no",
            "--disable-warnings",
        ),
        *("-p", "pytest_playwright.pytest_playwright"),
        *("-p", "chimera_proof", "-p", "no:cacheprovider", "--noconftest", "-c", os.devnull),
        f"--rootdir={sandbox.inside(jail, order.tests)}",
        f"--base-url={base_url}",
        f"--junit-xml={results}/junit.xml",
        f"--output={results}/browser",
        *("--screenshot=on", "--tracing=on", f"--video={video}", "--"),
        sandbox.inside(jail, order.tests / order.test_path),
    )


def _browser_mounts(chromium: str) -> list[Mount]:
    """Return what a browser outside /usr needs; Debian's wrapper reads /etc/chromium.d."""
    mounts = [Mount(path, str(path)) for path in (Path("/etc/chromium.d"),) if path.is_dir()]
    real = Path(chromium).resolve()
    if not real.is_relative_to("/usr"):
        mounts.append(Mount(real.parent, str(real.parent)))
    return mounts


def _video_folder(cache: Path) -> Path | None:
    """Return a folder where Playwright finds the system's ffmpeg; None = no video.

    Playwright 1.65 looks for $PLAYWRIGHT_BROWSERS_PATH/ffmpeg-<revision>/ffmpeg-linux.
    """
    ffmpeg = shutil.which("ffmpeg")
    revision = _ffmpeg_revision()
    if ffmpeg is None or revision is None or platform.system() != "Linux":
        return None
    link = cache / "playwright" / f"ffmpeg-{revision}" / "ffmpeg-linux"
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(ffmpeg)
    return cache / "playwright"


def _ffmpeg_revision() -> str | None:
    spec = importlib.util.find_spec("playwright")
    if spec is None or spec.origin is None:
        return None
    listing = Path(spec.origin).parent / "driver" / "package" / "browsers.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        browsers: list[dict[str, Any]] = json.loads(listing.read_text())["browsers"]
        return next((entry["revision"] for entry in browsers if entry["name"] == "ffmpeg"), None)
    return None


def _playwright_folders() -> list[Path]:
    home = Path.home()
    return [home / ".cache" / "ms-playwright", home / "Library" / "Caches" / "ms-playwright"]
