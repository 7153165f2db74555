"""What no task of the line shows of the playbooks: all of them on one site, and any plain pages.

That each one's test is red before and green after, on the demo, on plain files and on a Flask
site, is shown in tests/acceptance by test_factory.py, test_plain_site.py and test_flask_site.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.agents.base import Brief, Role
from tasks.agents.playbook import RUNNER
from tasks.agents.playbooks import recognition
from tasks.phases.guardian import RUFF_IGNORED, RUFF_RULES

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


ALL = {
    "back_to_top": "Add a back to top button",
    "contact_form": "Add a contact form",
    "cookie_notice": "Add a cookie notice",
    "dark_mode": "Add dark mode toggle",
    "faq": "FAQ accordion",
    "login": "User login and logout with an error for a wrong password",
    "newsletter": "Newsletter sign-up",
    "search": "Add a search box",
}
PLAIN = {name: ALL[name] for name in ("dark_mode", "faq", "search")}
RED = {
    "dark_mode": "there is a button for dark mode",
    "faq": "there are frequently asked questions",
    "search": "there is a search box",
}
# Put among the demo's own tests: what no browser shows of a login.
LOGIN_CLAIMS = """
import pytest
from django.core import signing

RIGHT = {"user": "reader", "password": "demo-password", "next": "/about/"}
OWN = {"origin": "http://localhost"}


def log_in(client, form=RIGHT, headers=OWN):
    return client.post("/-/login", form, headers=headers)


def is_logged_in(client):
    return b"<strong>reader</strong>" in client.get("/").content


def test_the_right_password_logs_in_and_leads_back(client):
    answer = log_in(client)
    assert (answer.status_code, answer["Location"]) == (302, "/about/")
    assert answer.cookies["site_user"]["httponly"]
    assert is_logged_in(client)


@pytest.mark.parametrize(
    "change", [{"password": "x"}, {"password": ""}, {"user": "nobody"}, {"user": "Reader"}]
)
def test_anything_else_does_not(client, change):
    log_in(client, RIGHT | change)
    assert b"Wrong user name or password" in client.get("/").content
    assert b"Wrong user name or password" not in client.get("/").content
    assert not is_logged_in(client)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", ""])
@pytest.mark.parametrize("path", ["/-/login", "/-/logout"])
def test_a_form_of_another_site_is_refused(client, path, origin):
    answer = client.post(path, RIGHT, headers={"origin": origin})
    assert answer.status_code == 403
    assert not is_logged_in(client)


@pytest.mark.parametrize("forged", ["reader", '"reader"', signing.dumps("reader", key="other")])
def test_a_cookie_that_the_server_did_not_sign_is_nobody(client, forged):
    client.cookies["site_user"] = forged
    assert not is_logged_in(client)


@pytest.mark.parametrize("away", ["//evil.example/", "http://evil.example/", "javascript:1"])
def test_no_form_leads_to_another_site(client, away):
    assert log_in(client, RIGHT | {"next": away})["Location"] == "/"


def test_a_page_is_not_kept_for_others(client):
    log_in(client)
    answer = client.get("/")
    assert "private" in answer["Cache-Control"] and "Cookie" in answer["Vary"]


def test_an_address_cannot_write_into_the_page(client):
    assert b"<script>x" not in client.get('/?"><script>x').content
"""
PLAIN_PAGE = """\
<!DOCTYPE html>
<html>
<head><title>{name}</title>
<style>
html {{ background: #eee }}
body {{ font-family: serif; background: white; color: #333; transition: background .3s }}
.note {{ background: #ffe9a8; border: 1px solid #e0c060 }}
</style></head>
<body>
<h1>{name}</h1>
<p class="note">{text} <a href="{link}">{label}</a></p>
</body>
</html>
"""


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


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Return two pages with colours of their own, and neither a header nor a main part."""
    site = tmp_path / "plain"
    site.mkdir()
    for path, name, text, link, label in (
        ("index.html", "Harbour", "Boats leave at noon.", "tides.html", "Tides"),
        ("tides.html", "Tides", "High water comes twice.", "index.html", "Back"),
    ):
        page = PLAIN_PAGE.format(name=name, text=text, link=link, label=label)
        (site / path).write_text(page)
    return site


def play(site: Path, role: Role, features: Mapping[str, str]) -> None:
    """Let the runner play a role in a folder for every feature."""
    for name, feature in features.items():
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
            *("--base-url", base_url, *sorted(path.name for path in folder.glob("test_*.py"))),
        )
        assert (folder / "result.xml").is_file(), done.stdout
        return _endings(folder / "result.xml")

    return call


def _endings(report: Path) -> dict[str, str]:
    endings: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname", "").removeprefix("test_")
        assert case.find("error") is None, f"{name} broke rather than failed"
        failure = case.find("failure")
        endings[name] = "" if failure is None else failure.get("message", "")
    return endings


def test_the_list_here_names_every_playbook():
    assert list(ALL) == [playbook.name for playbook in recognition.load_all()]


def test_neither_the_guardian_nor_the_demo_finds_fault_with_the_python(demo):
    for role in (Role.AUTHOR, Role.CODER):
        play(demo, role, ALL)
    guarded = ("--isolated", f"--select={RUFF_RULES}", f"--ignore={RUFF_IGNORED}")
    for arguments in (guarded, ("bookshop",)):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--no-cache", *arguments],
            cwd=demo,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_every_test_is_green_on_the_demo_with_all_the_changes_together(demo, prove):
    for role in (Role.AUTHOR, Role.CODER):
        play(demo, role, ALL)
    with served(demo, DEMO_SERVER) as base_url:
        assert prove(demo, base_url) == dict.fromkeys(ALL, "")


def test_the_tests_are_red_on_plain_pages_and_green_with_the_changes_together(plain, prove):
    play(plain, Role.AUTHOR, PLAIN)
    with served(plain, STATIC_SERVER) as base_url:
        red = prove(plain, base_url)
        play(plain, Role.CODER, PLAIN)
        assert prove(plain, base_url) == dict.fromkeys(PLAIN, "")
    assert red.keys() == PLAIN.keys()
    for name, message in red.items():
        assert message.startswith("AssertionError"), message
        assert RED[name] in message


def test_the_tests_of_the_demo_and_more_about_its_login_pass_after_all_the_changes(demo):
    play(demo, Role.CODER, ALL)
    (demo / "tests/test_login.py").write_text(LOGIN_CLAIMS)
    done = run_pytest(demo, "tests")
    assert done.returncode == 0, done.stdout
