"""What a person does with a finished branch: clone it, serve it, run its test in a browser."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

from django.conf import settings

from tasks.workspace import browser
from tasks.workspace.site import Room
from tests.acceptance.daemon import free_port
from tests.acceptance.engine import wait_for

# Names the browser; a person with Playwright's own needs none.
PLUGIN = """
import pytest


class SystemBrowser:
    @pytest.fixture(scope="session")
    @classmethod
    def browser_type_launch_args(cls):
        return {launch!r}


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    config.pluginmanager.register(SystemBrowser())
"""


def run_test(
    clone: Path, serve_command: str, test_path: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Serve the checkout as the project is served, and run its test as a person would."""
    port = free_port()
    launch = {
        "executable_path": browser.find_chromium(settings.CHIMERA.chromium),
        "chromium_sandbox": os.geteuid() != 0,
        "args": [*browser.FLAGS, browser.resolver_rules(Room("http://localhost", None))],
    }
    (folder / "system_browser.py").write_text(PLUGIN.format(launch=launch))
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(folder),
    }
    serve = shlex.split(serve_command.format(port=port))
    url = f"http://127.0.0.1:{port}"
    site = subprocess.Popen(
        serve, cwd=clone, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: answers(url), 10, "the site")
        return subprocess.run(
            ["python", "-m", "pytest", test_path, "--base-url", url, "-p", "system_browser"],
            cwd=clone,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        site.kill()
        site.wait()


def answers(url: str) -> bool:
    """Say whether something is served there."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def git(folder: Path, *words: str) -> None:
    """Run a Git command as a person would."""
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
