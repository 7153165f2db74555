"""One run of the end-to-end test in a real browser, and what is made of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tasks.workspace import browser, proof, sandbox, site
from tasks.workspace.browser import BrowserError
from tasks.workspace.failure import Failure
from tasks.workspace.process import Completed, Log
from tasks.workspace.proof import Proof, Result
from tasks.workspace.sandbox import Jail
from tasks.workspace.site import SiteOrder

OPEN = "def test_it(page, base_url):\n    page.goto(base_url + '/')\n"
EXPECT = "from playwright.sync_api import expect\n"

CASES = {
    "passes": (OPEN + "    assert page.inner_text('h1') == 'Hello'\n", Result.PASSED, "1 test"),
    "assert": (OPEN + "    assert page.inner_text('h1') == 'Bye'\n", Result.FAILED, "'Bye'"),
    "expect": (
        EXPECT + OPEN + "    expect(page.get_by_role('button')).to_be_visible(timeout=300)\n",
        Result.FAILED,
        'Expected get_by_role("button") to be visible; instead: no such element.',
    ),
    "locator": (
        OPEN + "    page.get_by_role('button').click(timeout=300)\n",
        Result.FAILED,
        "to be ready for click; instead: no such element within 300 ms.",
    ),
    "syntax error": ("def test_it(page)\n    pass\n", Result.BROKEN, "expected ':'"),
    "import error": ("import nothing_such\n" + OPEN, Result.BROKEN, "nothing_such"),
    "undefined name": (OPEN + "    undefined_thing()\n", Result.BROKEN, "NameError"),
    "unknown fixture": (
        "def test_it(nothing_such):\n    assert 0\n",
        Result.BROKEN,
        "nothing_such",
    ),
    "dead site": (
        "def test_it(page):\n    page.goto('http://127.0.0.1:8081/')\n    assert 0\n",
        Result.BROKEN,
        "ERR_CONNECTION_REFUSED",
    ),
    "other host": (
        "def test_it(page):\n    page.goto('http://example.com/')\n    assert 0\n",
        Result.BROKEN,
        "ERR_NAME_NOT_RESOLVED",
    ),
    "assertion before any page": ("def test_it(page):\n    assert 0\n", Result.BROKEN, "no page"),
    "no test": ("ANSWER = 42\n", Result.NONE_RAN, "No test ran"),
    "skipped": (
        "import pytest\n@pytest.mark.skip\n" + OPEN + "    assert 0\n",
        Result.NONE_RAN,
        "skipped",
    ),
}


def prove(tmp_path: Path, test: str, mode: str = "auto") -> Proof:
    box = sandbox.find(mode)
    tree, tests = tmp_path / "tree", tmp_path / "tests"
    tree.mkdir()
    (tree / "index.html").write_text("<!doctype html><title>Hello</title><h1>Hello</h1>")
    (tests / "e2e").mkdir(parents=True)
    (tests / "e2e" / "test_it.py").write_text(test)
    serve = lambda port: (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")  # noqa: E731
    served = SiteOrder(serve, Jail(tree), "chimera-1.localhost", "/", tmp_path / "site.log")
    chromium = browser.find_chromium(os.environ.get("CHIMERA_CHROMIUM", ""))
    order = browser.ProofOrder(
        tests, "e2e/test_it.py", tmp_path / "results", chromium, tmp_path / "cache", 60
    )
    log = Log(tmp_path / "log.txt")
    with site.running(box, served) as room:
        done = browser.prove(box, order, room, log, lambda: False)
    log.close()
    return proof.read(order.results, done)


@pytest.mark.parametrize("name", CASES)
def test_a_failure_is_told_from_a_broken_test(name: str, tmp_path: Path) -> None:
    test, result, said = CASES[name]
    seen = prove(tmp_path, test)
    assert (seen.result, said in seen.reason) == (result, True), seen.reason


def test_the_line_of_the_failure_is_that_of_the_test(tmp_path: Path) -> None:
    seen = prove(tmp_path, CASES["locator"][0])
    assert seen.line == 3


def test_a_proof_leaves_screenshot_trace_and_report(tmp_path: Path) -> None:
    seen = prove(tmp_path, CASES["assert"][0])
    assert seen.failure == Failure(
        expected="page.inner_text('h1') == 'Bye'",
        actual="'Hello'",
        source="assert page.inner_text('h1') == 'Bye'",
    )
    kinds = {item.kind for item in seen.evidence}
    assert {"screenshot", "trace", "report"} <= kinds
    assert ("video" in kinds) == browser.has_ffmpeg()
    assert all(Path(item.path).stat().st_size > 0 for item in seen.evidence)


def test_a_proof_without_a_sandbox_judges_alike(tmp_path: Path) -> None:
    assert prove(tmp_path, CASES["assert"][0], "off").result == Result.FAILED


def test_a_conftest_beside_the_test_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "tests" / "e2e").mkdir(parents=True)
    (tmp_path / "tests" / "e2e" / "conftest.py").write_text("raise SystemExit('loaded')\n")
    box = sandbox.find("auto")
    (tmp_path / "tests" / "e2e" / "test_it.py").write_text("def test_it():\n    assert 1\n")
    chromium = browser.find_chromium("")
    order = browser.ProofOrder(
        tmp_path / "tests", "e2e/test_it.py", tmp_path / "r", chromium, tmp_path / "c", 60
    )
    log = Log(tmp_path / "log.txt")
    room = site.Room("http://localhost", None)
    done = browser.prove(box, order, room, log, lambda: False)
    log.close()
    assert done.ok, done.output_tail


def test_console_errors_and_failed_requests_are_noted_and_counted(tmp_path: Path) -> None:
    script = (
        "async () => { for (let i = 0; i < 120; i++) console.error(`no ${i}\\u001b[31m\\u202e`);"
        " setTimeout(() => { throw new Error('lost') }); await fetch('/none');"
        " await fetch('http://x.invalid/').catch(() => 0) }"
    )
    seen = prove(tmp_path, OPEN + f"    page.evaluate({script!r})\n    assert 0\n")
    told = " ".join(seen.failed_requests)
    assert "x.invalid/: net::ERR_NAME_NOT_RESOLVED" in told
    assert "/none: HTTP 404" in told
    assert seen.failed_requests_count == 2
    assert seen.console[0].startswith("no 0")
    assert not set("\x1b\u202e") & set("".join(seen.console))
    assert len(seen.console) == 100
    assert seen.console_count >= 120
    assert len(seen.as_json()["console"]) == 20
    assert seen.as_json()["console_count"] == seen.console_count


def test_links_and_special_files_in_the_results_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    results = tmp_path / "results"
    results.mkdir()
    (results / "proof.json").symlink_to(tmp_path / "secret.json")
    (results / "trace.zip").symlink_to("/etc/passwd")
    os.mkfifo(results / "shot.png")
    seen = proof.read(results, Completed(0, "no tests ran"))
    assert seen.result == Result.NONE_RAN
    assert seen.evidence == ()


@pytest.mark.parametrize("text", ["[]", "nonsense", "{}", '{"tests": 3}', '{"tests": [1, null]}'])
def test_a_strange_report_is_never_a_pass(text: str, tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text(text)
    assert proof.read(tmp_path, Completed(0, "")).result == Result.NONE_RAN


@pytest.mark.parametrize("classes", ["5", '{"a": 1}', "[[]]", "null"])
def test_a_failure_of_no_known_class_is_a_broken_test(classes: str, tmp_path: Path) -> None:
    test = f'{{"outcome": "failed", "when": "setup", "classes": {classes}, "message": []}}'
    (tmp_path / "proof.json").write_text(f'{{"tests": [{test}]}}')
    assert proof.read(tmp_path, Completed(1, "")).result == Result.BROKEN


def test_passing_tests_with_a_failing_exit_code_are_no_pass(tmp_path: Path) -> None:
    test = {"id": "t", "when": "call", "outcome": "passed", "page_loaded": True}
    (tmp_path / "proof.json").write_text(json.dumps({"tests": [test], "errors": []}))
    assert proof.read(tmp_path, Completed(0, "")).result == Result.PASSED
    assert proof.read(tmp_path, Completed(1, "")).result == Result.BROKEN


def test_what_a_report_says_is_bounded_and_shown_as_text(tmp_path: Path) -> None:
    wild = "\x1b[31m\u202e\0" + "x" * 5000
    message = (
        f"Locator expected to have text '{wild}'\nActual value: {wild} \nCall log:\n  - {wild}"
    )
    test = {
        "when": "call",
        "outcome": "failed",
        "page_loaded": True,
        "classes": ["builtins.AssertionError"],
        "message": message,
        "source": f"assert {wild}",
        "line": -5,
    }
    report = {"tests": [test], "console": [wild] * 500, "console_count": 10**30, "requests": 3}
    (tmp_path / "proof.json").write_text(json.dumps(report))
    seen = proof.read(tmp_path, Completed(1, ""))
    assert (seen.result, seen.line) == (Result.FAILED, 0)
    told = json.dumps(seen.as_json(), ensure_ascii=False)
    assert len(told) < 16_000
    assert not set("\x1b\u202e\0") & set(told + seen.reason)
    assert "\\u" not in told
    assert "to have text" in seen.reason


def test_no_more_browsers_than_places_at_a_time(tmp_path: Path) -> None:
    asked = []

    def give_up() -> None:
        asked.append(1)
        if len(asked) > 2:
            raise TimeoutError

    with browser.slot(tmp_path, 1, give_up):
        assert asked == []
        with pytest.raises(TimeoutError), browser.slot(tmp_path, 1, give_up):
            pass
    with browser.slot(tmp_path, 1, give_up):
        assert len(asked) == 3  # the place was free again


def test_a_chosen_browser_that_is_missing_is_named() -> None:
    with pytest.raises(BrowserError, match="CHIMERA_CHROMIUM=/nowhere"):
        browser.find_chromium("/nowhere")
