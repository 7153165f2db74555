"""Search and FAQ in a real browser: red on a site as it was, green as the playbook made it.

One run of pytest per site and state holds the tests of every playbook.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.agents.base import Brief, Role
from tasks.agents.playbook import RUNNER

from .test_demo_site import (
    CONFTEST,
    DEMO_SERVER,
    FLAGS,
    REPOSITORY,
    STATIC_SERVER,
    run_pytest,
    served,
)

FEATURES = {"search": "Add a search box", "faq": "FAQ accordion"}
RED = {
    "search": "there is a search box",
    "faq": "there are frequently asked questions",
}
PLAIN_PAGE = """\
<!DOCTYPE html>
<html>
<head><title>{name}</title><style>body {{ font-family: serif; color: #333 }}</style></head>
<body>
<h1>{name}</h1>
<p>{text} <a href="{link}">{label}</a></p>
</body>
</html>
"""


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Return a copy of the demo."""
    site = tmp_path / "demo"
    ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache", ".ruff_cache")
    shutil.copytree(REPOSITORY / "demo", site, ignore=ignored)
    return site


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Return two plain pages that have neither a header nor a main part."""
    site = tmp_path / "plain"
    site.mkdir()
    for path, name, text, link, label in (
        ("index.html", "Harbour", "Boats leave at noon.", "tides.html", "Tides"),
        ("tides.html", "Tides", "High water comes twice.", "index.html", "Back"),
    ):
        page = PLAIN_PAGE.format(name=name, text=text, link=link, label=label)
        (site / path).write_text(page)
    return site


def play(site: Path, role: Role) -> None:
    """Let the runner play a role in a folder for every feature."""
    for name, feature in FEATURES.items():
        brief = Brief(role, "chimera-1", feature, "/", f"tests/e2e/test_{name}.py")
        subprocess.run(
            [sys.executable, "-I", "-B", str(RUNNER)],
            input=brief.as_json().encode(),
            cwd=site,
            env={},
            check=True,
            stdout=subprocess.DEVNULL,
        )


@pytest.fixture
def prove(tmp_path: Path) -> Callable[[Path, str], dict[str, str]]:
    """Return a function that runs a site's authored tests: by playbook, how each of them failed.

    "" where a test passed.
    """
    chromium = os.environ.get("CHIMERA_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    assert chromium, "these tests need Chromium; set CHIMERA_CHROMIUM to its path"

    def call(site: Path, base_url: str) -> dict[str, str]:
        folder = tmp_path / "proof"
        shutil.copytree(site / "tests/e2e", folder, dirs_exist_ok=True)
        values = f"EXECUTABLE = {str(chromium)!r}\nFLAGS = {FLAGS!r}\n"
        (folder / "conftest.py").write_text(values + CONFTEST)
        (folder / "pytest.ini").write_text("[pytest]\n")
        done = run_pytest(
            folder,
            *("-c", str(folder / "pytest.ini"), "-p", "no:django", "--junitxml=result.xml"),
            *("--base-url", base_url, *(f"test_{name}.py" for name in FEATURES)),
        )
        found = _endings(folder / "result.xml")
        assert found.keys() == FEATURES.keys(), done.stdout
        return found

    return call


def _endings(report: Path) -> dict[str, str]:
    endings: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname", "").removeprefix("test_")
        assert case.find("error") is None, f"{name} broke rather than failed"
        failure = case.find("failure")
        endings[name] = "" if failure is None else failure.get("message", "")
    return endings


def assert_red(endings: dict[str, str]) -> None:
    for name, message in endings.items():
        assert message.startswith("AssertionError"), message
        assert RED[name] in message


def test_the_tests_are_red_on_the_demo_and_green_after_the_changes(demo, prove):
    play(demo, Role.AUTHOR)
    with served(demo, DEMO_SERVER) as base_url:
        assert_red(prove(demo, base_url))

    play(demo, Role.CODER)
    with served(demo, DEMO_SERVER) as base_url:
        assert prove(demo, base_url) == dict.fromkeys(FEATURES, "")


def test_the_tests_are_red_on_plain_pages_and_green_after_the_changes(plain, prove):
    play(plain, Role.AUTHOR)
    with served(plain, STATIC_SERVER) as base_url:
        assert_red(prove(plain, base_url))
        play(plain, Role.CODER)
        assert prove(plain, base_url) == dict.fromkeys(FEATURES, "")
