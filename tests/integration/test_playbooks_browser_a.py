"""Playbooks' tests are red on sites as they were and green on the sites as the playbooks made them.

The plain site has a copy of its pages for each playbook; the demo gets them all at once.
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
from tests.integration.test_demo_site import (
    CONFTEST,
    DEMO_SERVER,
    FLAGS,
    REPOSITORY,
    STATIC_SERVER,
    run_pytest,
    served,
)

REQUESTS = {
    "cookie_notice": "Add a cookie notice",
    "back_to_top": "Add a back to top button",
    "newsletter": "Newsletter sign-up",
    "contact_form": "Add a contact form",
}
MISSING = {
    "cookie_notice": "there is a cookie notice with a button to dismiss it",
    "back_to_top": "after scrolling down there is a button back to the top",
    "newsletter": "there is a sign-up form for a newsletter",
    "contact_form": "there is a contact form",
}
PAGE = """<!DOCTYPE html>
<html>
  <head><title>{name}</title>
    <style>
      html {{ background: #20242c }}
      body {{ color: #eee; font-family: serif; max-width: 40em; margin: 2em auto }}
      button {{ text-transform: uppercase }}
    </style></head>
  <body><h1>{name}</h1><p>Our cookbook: write to <a href="about.html">us</a>.</p></body>
</html>
"""
# "" is a pass; what failed otherwise, by the name of the playbook.
Verdicts = dict[str, str]


def play(site: Path, role: Role, name: str, start_path: str = "/") -> None:
    """Let the runner play a role in a folder."""
    brief = Brief(role, "chimera-1", REQUESTS[name], start_path, f"tests/e2e/test_{name}.py")
    subprocess.run(
        [sys.executable, "-I", "-B", str(RUNNER)],
        input=brief.as_json().encode(),
        cwd=site,
        env={},
        check=True,
        stdout=subprocess.DEVNULL,
    )


@pytest.fixture
def prove(tmp_path: Path) -> Callable[[list[Path], str], Verdicts]:
    """Return a function that runs authored tests against an address, all in one browser."""
    chromium = os.environ.get("CHIMERA_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    assert chromium, "these tests need Chromium; set CHIMERA_CHROMIUM to its path"
    folder = tmp_path / "proof"
    folder.mkdir()
    values = f"EXECUTABLE = {str(chromium)!r}\nFLAGS = {FLAGS!r}\n"
    (folder / "conftest.py").write_text(values + CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\n")

    def call(tests: list[Path], base_url: str) -> Verdicts:
        for test in tests:
            shutil.copy(test, folder / test.name)
        done = run_pytest(
            folder,
            *("-c", str(folder / "pytest.ini"), "-p", "no:django", "--junitxml=result.xml"),
            *("--screenshot=on", "--base-url", base_url),
        )
        verdicts = _read(folder / "result.xml")
        assert set(verdicts) == set(REQUESTS), done.stdout
        return verdicts

    return call


def _read(report: Path) -> Verdicts:
    return {
        case.get("classname", "").removeprefix("test_"): next(
            (child.get("message", "") for child in case if child.tag in ("failure", "error")), ""
        )
        for case in ElementTree.parse(report).iter("testcase")
    }


def _check_red(verdicts: Verdicts) -> None:
    for name, message in verdicts.items():
        assert message.startswith("AssertionError"), (name, message)
        assert MISSING[name] in message


def test_the_tests_are_red_on_the_demo_and_green_with_all_the_changes_together(tmp_path, prove):
    site = tmp_path / "demo"
    ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache", ".ruff_cache")
    shutil.copytree(REPOSITORY / "demo", site, ignore=ignored)
    for name in REQUESTS:
        play(site, Role.AUTHOR, name)
    tests = sorted((site / "tests/e2e").glob("test_*.py"))
    with served(site, DEMO_SERVER) as base_url:
        _check_red(prove(tests, base_url))

    for name in REQUESTS:
        play(site, Role.CODER, name)
    with served(site, DEMO_SERVER) as base_url:
        assert prove(tests, base_url) == dict.fromkeys(REQUESTS, "")
    own = run_pytest(site, "tests")
    assert own.returncode == 0, own.stdout


def test_the_tests_are_red_on_plain_pages_and_green_after_each_change_alone(tmp_path, prove):
    root = tmp_path / "plain"
    for name in REQUESTS:
        (root / name).mkdir(parents=True)
        for page in ("index", "about"):
            (root / name / f"{page}.html").write_text(PAGE.format(name=page))
        play(root / name, Role.AUTHOR, name, f"/{name}/")
    tests = sorted(root.glob("*/tests/e2e/test_*.py"))
    with served(root, STATIC_SERVER) as base_url:
        _check_red(prove(tests, base_url))
        for name in REQUESTS:
            play(root / name, Role.CODER, name)
        assert prove(tests, base_url) == dict.fromkeys(REQUESTS, "")
