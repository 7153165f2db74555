"""The playbook's test is red on a site as it was and green on the site as the playbook made it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.agents.base import Brief, Role
from tasks.agents.playbook import RUNNER

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO_SERVER = ("-u", "-m", "bookshop", "--port", "0")
STATIC_SERVER = ("-u", "-m", "http.server", "0", "--bind", "127.0.0.1")
START_LIMIT_S = 15
CONFTEST = """
import pytest


@pytest.fixture(scope="session")
def browser_type_launch_args():
    return {"executable_path": EXECUTABLE, "headless": True, "args": FLAGS}
"""
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE *.localhost, EXCLUDE 127.0.0.1",
]


@dataclass(frozen=True)
class Result:
    """What one run of the authored test recorded."""

    passed: bool
    failure: str  # "" unless an assertion failed
    error: str  # "" unless something else broke
    output: str


@contextmanager
def served(folder: Path, server: tuple[str, ...]) -> Iterator[str]:
    """Serve a folder on a free port and yield its address."""
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-B", *server],
            cwd=folder,
            env=_environment(folder),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://127.0.0.1:{_port(child, log)}"
    finally:
        child.terminate()
        child.wait(timeout=10)


def _port(child: subprocess.Popen[bytes], log: Path) -> str:
    limit = time.monotonic() + START_LIMIT_S
    while child.poll() is None and time.monotonic() < limit:
        found = re.search(r"(?:127\.0\.0\.1:| port )(\d+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"the site did not start: {log.read_text()}")


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, with nothing of this repository's configuration."""
    return subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments],
        cwd=folder,
        env=_environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def _environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Return a copy of the demo."""
    site = tmp_path / "demo"
    ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache", ".ruff_cache")
    shutil.copytree(REPOSITORY / "demo", site, ignore=ignored)
    return site


def play(site: Path, role: Role) -> None:
    """Let the runner play a role in a folder."""
    brief = Brief(role, "chimera-1", "Add dark mode toggle", "/", "tests/e2e/test_dark.py")
    subprocess.run(
        [sys.executable, "-I", "-B", str(RUNNER)],
        input=brief.as_json().encode(),
        cwd=site,
        env={},
        check=True,
        stdout=subprocess.DEVNULL,
    )


@pytest.fixture
def prove(tmp_path: Path) -> Callable[[Path, str], Result]:
    """Return a function that runs a site's authored test against an address."""
    chromium = os.environ.get("CHIMERA_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    assert chromium, "these tests need Chromium; set CHIMERA_CHROMIUM to its path"

    def call(site: Path, base_url: str) -> Result:
        folder = tmp_path / "proof"
        folder.mkdir(exist_ok=True)
        shutil.copy(site / "tests/e2e/test_dark.py", folder / "test_dark.py")
        values = f"EXECUTABLE = {str(chromium)!r}\nFLAGS = {FLAGS!r}\n"
        (folder / "conftest.py").write_text(values + CONFTEST)
        (folder / "pytest.ini").write_text("[pytest]\n")
        done = run_pytest(
            folder,
            *("-c", str(folder / "pytest.ini"), "-p", "no:django", "--junitxml=result.xml"),
            *("--base-url", base_url, "test_dark.py"),
        )
        return _read(folder / "result.xml", done.stdout)

    return call


def _read(report: Path, output: str) -> Result:
    [case] = ElementTree.parse(report).iter("testcase")
    failure, error = case.find("failure"), case.find("error")
    return Result(
        passed=failure is None and error is None,
        failure="" if failure is None else failure.get("message", ""),
        error="" if error is None else error.get("message", ""),
        output=output,
    )


def _static_site(folder: Path) -> Path:
    """Make two plain pages with colours written out, in a layout unlike the demo's."""
    folder.mkdir()
    for name in ("index", "about"):
        (folder / f"{name}.html").write_text(
            textwrap.dedent(f"""\
                <!DOCTYPE html>
                <html>
                  <head><title>{name}</title>
                    <style>
                      html {{ background: #eee }}
                      body {{ background: white; color: #333; transition: background .3s }}
                      .note {{ background: #ffe9a8; border: 1px solid #e0c060 }}
                    </style></head>
                  <body><h1>{name}</h1><p class="note">A plain page.</p></body>
                </html>
                """)
        )
    return folder


def test_the_test_is_red_on_the_demo_and_green_after_the_change(demo, prove):
    play(demo, Role.AUTHOR)
    with served(demo, DEMO_SERVER) as base_url:
        red = prove(demo, base_url)
    assert red.failure.startswith("AssertionError"), red.output
    assert "there is a button for dark mode" in red.failure
    assert not red.error

    play(demo, Role.CODER)
    with served(demo, DEMO_SERVER) as base_url:
        green = prove(demo, base_url)
    assert green.passed, green.output


def test_the_test_is_red_on_plain_pages_and_green_after_the_change(tmp_path, prove):
    site = _static_site(tmp_path / "plain")
    play(site, Role.AUTHOR)
    with served(site, STATIC_SERVER) as base_url:
        red = prove(site, base_url)
        play(site, Role.CODER)
        green = prove(site, base_url)
    assert red.failure.startswith("AssertionError"), red.output
    assert green.passed, green.output


def test_the_tests_of_the_demo_pass_before_and_after_the_change(demo):
    for role in (Role.AUTHOR, Role.CODER):
        play(demo, role)
        done = run_pytest(demo, "tests")
        assert done.returncode == 0, done.stdout
        assert "test_dark" not in done.stdout


def test_a_test_of_the_demo_can_be_run_by_hand(demo):
    play(demo, Role.AUTHOR)
    done = run_pytest(
        demo, "--collect-only", "--base-url", "http://127.0.0.1:9", "tests/e2e/test_dark.py"
    )
    assert "test_dark_mode_can_be_switched_on_and_off" in done.stdout
    assert "1 test collected" in done.stdout
