"""Make .venv, install what is pinned, find a browser; what is done is not done again.

python3 -m scripts.bootstrap [--dev] [--programs no|wanted|needed]
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts import programs, steps

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)


def main(argv: list[str] | None = None) -> int:
    """Bring this checkout to the wanted state; 0, or 1 with the reason printed."""
    options = _parse(argv)
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    if sys.version_info < OLDEST:
        steps.say(f"Chimera needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
        return 1
    try:
        with _alone(ROOT):
            Checkout(ROOT).prepare(dev=options.dev, want=options.programs)
    except steps.StepError as error:
        steps.say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        steps.say("\nStopped. Run the same command again: it goes on where this ended.")
        return 130
    return 0


class Checkout:
    """A clone of the repository, its virtual environment and the stamp of what is done."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.python = self.venv / "bin" / "python"
        self.log = self.venv / "bootstrap.log"
        self._stamp_file = self.venv / "bootstrap.json"

    def prepare(self, *, dev: bool, want: str) -> None:
        """Do what is not done yet: environment, packages, programs. Raises StepError."""
        done = self.stamp()
        if done.get("place") != self.place():
            done = {"place": self.place()}
            self._make_environment()
        wanted = self.requirements_hash("requirements-dev.txt" if dev else "requirements.txt")
        installed = done.setdefault("installed", [])
        if wanted not in installed:
            self._install(dev)
            # The larger set holds the smaller one.
            installed[:] = [self.requirements_hash("requirements.txt"), wanted]
            self._write(done)
        if want != "no":
            self._find_programs(done, needed=want == "needed")
            self._write(done)

    def place(self) -> str:
        """Name what the environment is bound to: this folder and the interpreter."""
        version = ".".join(str(part) for part in sys.version_info[:3])
        return f"{self.venv} {version} {os.path.realpath(sys.executable)}"

    def requirements_hash(self, name: str) -> str:
        """Return the hash of all that decides what `name` installs."""
        digest = hashlib.sha256(name.encode())
        for part in sorted({name, "requirements.txt", "pyproject.toml"}):
            digest.update((self.root / part).read_bytes())
        return digest.hexdigest()

    def stamp(self) -> dict[str, Any]:
        """Return what the last run has done; empty if the environment does not start."""
        try:
            done = json.loads(self._stamp_file.read_text())
        except (OSError, ValueError):
            return {}
        return done if isinstance(done, dict) and os.access(self.python, os.X_OK) else {}

    def _write(self, done: dict[str, Any]) -> None:
        draft = self._stamp_file.with_suffix(".new")
        draft.write_text(json.dumps(done, indent=1) + "\n")
        draft.replace(self._stamp_file)

    def _make_environment(self) -> None:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        steps.say("Setting Chimera up; this happens once.")
        command = [_interpreter(), "-m", "venv", "--clear", str(self.venv)]
        log = self.root / ".venv.log"  # --clear empties .venv, so its log starts beside it
        title = f"making .venv with Python {version}"
        advice = f"On Debian and Ubuntu: apt-get install python{version}-venv"
        try:
            self._ensure_venv_module(version, log)
            steps.run(title, command, log, advice=advice, cwd=self.root)
            log.replace(self.log)
        finally:
            log.unlink(missing_ok=True)

    def _ensure_venv_module(self, version: str, log: Path) -> None:
        """Install Debian's package for ensurepip, which its Python comes without."""
        check = [_interpreter(), "-c", "import ensurepip, venv"]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:  # noqa: S603
            return
        machine = programs.Machine.here()
        package = [f"python{version}-venv"]
        prefix = programs.apt_prefix(machine, package)
        if prefix is not None:
            programs.install_packages(prefix, package, log)

    def _install(self, dev: bool) -> None:
        name = "requirements-dev.txt" if dev else "requirements.txt"
        count = sum("==" in line for line in self._pins(name))
        pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "install"]
        advice = f"pip needs a package index that it can reach. Everything it said: {self.log}"
        steps.run(
            f"installing {count} pinned packages ({name})",
            [*pip, "-r", name],
            self.log,
            advice=advice,
            cwd=self.root,
        )
        own = [*pip, "--no-deps", "--no-build-isolation", "-e", "."]
        steps.run("installing chimera-daemon", own, self.log, advice=advice, cwd=self.root)

    def _pins(self, name: str) -> list[str]:
        lines = (self.root / name).read_text().splitlines()
        # Django is pinned once for each side of a Python version; only one of the two counts.
        chosen = [line for line in lines if "python_version <" not in line]
        return chosen + (self._pins("requirements.txt") if "dev" in name else [])

    def _find_programs(self, done: dict[str, Any], needed: bool) -> None:
        machine = programs.Machine.here()
        browser = self._known_browser(done) or self._look_for_browser()
        packages = programs.missing_packages(machine, browser is not None)
        prefix = programs.apt_prefix(machine, packages)
        if prefix is not None and programs.install_packages(prefix, packages, self.log):
            browser = browser or self._look_for_browser()
        if browser is None and programs.install_managed_browser(self.python, machine, self.log):
            browser = self._look_for_browser()
        for line in programs.advice(machine, browser is not None):
            steps.say(f"  ! {line}")
        if browser is not None:
            done["browser"] = _identity(browser)
        elif needed:
            raise steps.StepError("This needs a browser; see above.")

    def _look_for_browser(self) -> Path | None:
        steps.say("  … looking for a browser that makes a screenshot")
        browser = programs.find_browser()
        if browser is not None:
            steps.say(f"  ✓ browser: {browser}")
        return browser

    def _known_browser(self, done: dict[str, Any]) -> Path | None:
        """Return the browser of the last run if it may still be used and is unchanged."""
        for path in programs.candidates():
            if path.is_file() and done.get("browser") == _identity(path):
                return path
        return None


def _identity(browser: Path) -> str:
    return f"{browser} {browser.resolve().stat().st_mtime_ns}"


def _interpreter() -> str:
    """Return the base interpreter, so that .venv never hangs on another environment."""
    return getattr(sys, "_base_executable", None) or sys.executable


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep a second bootstrap of the same folder waiting until this one is through."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            steps.say("Another setup of this folder is running; waiting for it.")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bootstrap", description=__doc__)
    parser.add_argument("--dev", action="store_true", help="also what tests and lint need")
    parser.add_argument(
        "--programs",
        choices=["no", "wanted", "needed"],
        default="wanted",
        help="look for a browser, bubblewrap and ffmpeg; 'needed': fail without a browser",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
