"""Find, or install, the programs that proofs need: a browser, bubblewrap, ffmpeg."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scripts import steps

SYSTEM_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_BROWSERS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=200,200",
)
RESOLVE_NOTHING = "--host-resolver-rules=MAP * ~NOTFOUND"
PNG = b"\x89PNG"
SCREENSHOT_LIMIT_S = 60


@dataclass(frozen=True)
class Machine:
    """What decides how programs can be installed here."""

    is_root: bool
    has_apt: bool
    has_sudo: bool
    has_terminal: bool
    distribution: str  # ID of /etc/os-release, "" if unknown
    is_linux: bool

    @classmethod
    def here(cls) -> Machine:
        """Look at this machine."""
        return cls(
            is_root=os.geteuid() == 0,
            has_apt=shutil.which("apt-get") is not None,
            has_sudo=shutil.which("sudo") is not None,
            has_terminal=sys.stdin.isatty() and sys.stdout.isatty(),
            distribution=distribution(Path("/etc/os-release")),
            is_linux=sys.platform.startswith("linux"),
        )


def distribution(release: Path) -> str:
    """Return the ID that an os-release file gives, e.g. "debian"; "" if there is none."""
    if not release.is_file():
        return ""
    for line in release.read_text(errors="replace").splitlines():
        if line.startswith("ID="):
            return line.removeprefix("ID=").strip().strip("\"'")
    return ""


def candidates() -> list[Path]:
    """Return the browsers that may be used, in the order in which they are tried."""
    chosen = os.environ.get("CHIMERA_CHROMIUM")
    if chosen:
        return [Path(chosen).expanduser()]
    found = [Path(path) for name in SYSTEM_BROWSERS if (path := shutil.which(name))]
    found += [Path(path) for path in MAC_BROWSERS if Path(path).is_file()]
    cache = Path.home() / (".cache" if sys.platform != "darwin" else "Library/Caches")
    managed = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or cache / "ms-playwright")
    patterns = ("chromium-*/chrome-linux*/chrome", "chromium-*/chrome-mac*/*.app/Contents/MacOS/*")
    for pattern in patterns:
        found += sorted(managed.glob(pattern), reverse=True)
    return found


def find_browser() -> Path | None:
    """Return the first browser that makes a screenshot here. Raises StepError.

    A browser that the user named and that does not work is an error, never passed over.
    """
    for path in candidates():
        if makes_screenshot(path):
            return path
        if os.environ.get("CHIMERA_CHROMIUM"):
            raise steps.StepError(
                f"CHIMERA_CHROMIUM names {path}, which made no screenshot. "
                "Name another browser, or unset it and let Chimera look for one."
            )
        steps.say(f"  · {path} is there, but made no screenshot; looking on")
    return None


def makes_screenshot(browser: Path) -> bool:
    """Say whether `browser` draws a page of ours; a launcher without its browser does not."""
    # Without root first with Chromium's own sandbox, which not every kernel allows.
    for sandbox in [["--no-sandbox"]] if os.geteuid() == 0 else [[], ["--no-sandbox"]]:
        with tempfile.TemporaryDirectory(prefix="chimera-browser-") as folder:
            picture = Path(folder) / "page.png"
            argv = [str(browser), *FLAGS, *sandbox, RESOLVE_NOTHING]
            argv += [f"--user-data-dir={folder}/profile", f"--screenshot={picture}"]
            argv.append("data:text/html,<p>Chimera")
            try:
                subprocess.run(  # noqa: S603 - argv is made here, no shell
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=SCREENSHOT_LIMIT_S,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired):
                continue
            if picture.is_file() and picture.read_bytes().startswith(PNG):
                return True
    return False


def missing_packages(machine: Machine, has_browser: bool) -> list[str]:
    """Return the Debian packages that would give this machine what it lacks."""
    wanted = []
    if not has_browser and machine.distribution == "debian":
        wanted.append("chromium")  # elsewhere the package of that name only asks for snap
    if machine.is_linux and shutil.which("bwrap") is None:
        wanted.append("bubblewrap")
    if shutil.which("ffmpeg") is None:
        wanted.append("ffmpeg")
    return wanted


def apt_prefix(machine: Machine, packages: list[str]) -> list[str] | None:
    """Return how to call apt-get: plainly as root, by sudo after a yes; None: not at all."""
    if not (machine.has_apt and packages):
        return None
    if machine.is_root:
        return []
    if not (machine.has_sudo and machine.has_terminal):
        return None
    answer = input(f"  Install {', '.join(packages)} with sudo apt-get? [y/N] ")
    if answer.strip().lower() not in {"y", "yes"}:
        return None
    # Asks for the password now, where nothing moves on the screen.
    allowed = subprocess.run(["sudo", "-v"], check=False)  # noqa: S607 - the user's own sudo
    return ["sudo"] if allowed.returncode == 0 else None


def install_packages(prefix: list[str], packages: list[str], log: Path) -> bool:
    """Install Debian packages; False, with the reason printed, if that failed."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    apt = [*prefix, "apt-get", "-y", "--no-install-recommends"]
    try:
        steps.run("reading Debian's package lists", [*apt, "update"], log, env=quiet)
        steps.run(f"installing {', '.join(packages)}", [*apt, "install", *packages], log, env=quiet)
    except steps.StepError as error:
        steps.say(str(error))
        return False
    return True


def install_managed_browser(python: Path, machine: Machine, log: Path) -> bool:
    """Let Playwright download its Chromium; False, with the reason printed, if that failed."""
    argv = [str(python), "-m", "playwright", "install", "chromium"]
    if machine.is_root and machine.has_apt:
        argv.append("--with-deps")
    try:
        steps.run("downloading Playwright's Chromium", argv, log)
    except steps.StepError as error:
        steps.say(str(error))
        return False
    return True


def advice(machine: Machine, has_browser: bool) -> list[str]:
    """Say in plain sentences what is still missing, what that means, and what to do."""
    how = "sudo apt-get install" if machine.has_apt else "with your system's package manager:"
    lines = []
    if not has_browser:
        lines.append(
            "No browser that works was found, so no proof can run. Install Chromium or Chrome "
            f"({how} chromium), or name one: CHIMERA_CHROMIUM=/path/to/chrome"
        )
    if machine.is_linux and shutil.which("bwrap") is None:
        lines.append(
            "bubblewrap is missing: only the bundled demo runs, and without a sandbox. "
            f"Install it: {how} bubblewrap"
        )
    if not machine.is_linux:
        lines.append("There is no sandbox on this system: only the bundled demo runs (untested).")
    if shutil.which("ffmpeg") is None:
        lines.append(f"ffmpeg is missing: proofs have no video. Install it: {how} ffmpeg")
    return lines
