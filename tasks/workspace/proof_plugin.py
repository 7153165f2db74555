"""The pytest plugin of a proof: our browser, and the class of every failure.

JUnit's report doesn't tell a failed assertion from a broken test, so each failure is written to
CHIMERA_PROOF_REPORT with the class of its exception. Loaded by name in the sandbox, beside
pytest-playwright; it imports nothing of Chimera.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

MAX_NOTES = 100  # of each sort that are kept in words; all are counted


class OurBrowser:
    """Fixtures that stand in for pytest-playwright's: the browser, and a page that is watched."""

    @pytest.fixture(scope="session")
    @classmethod
    def browser_type_launch_args(cls) -> dict[str, Any]:
        """Start the system's Chromium with the flags that keep it quiet."""
        launch: dict[str, Any] = json.loads(os.environ["CHIMERA_BROWSER"])
        return launch


class Notes:
    """What a page complained of: the first in words, and how often in all."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.count = 0

    def add(self, text: str) -> None:
        """Note one more."""
        self.count += 1
        if self.count <= MAX_NOTES:
            self.kept.append(text[:500])


class Recorder:
    """Writes down what became of each test."""

    def __init__(self) -> None:
        self.tests: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.console = Notes()
        self.requests = Notes()
        self.page_loaded = False

    @pytest.fixture(autouse=True)
    def _watch_page(self, request: pytest.FixtureRequest) -> None:
        if "page" not in request.fixturenames:
            return
        self.page_loaded = False
        page = request.getfixturevalue("page")
        page.on("domcontentloaded", self._note_load)
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.console.add(f"uncaught: {error}"))
        page.on("requestfailed", lambda call: self.requests.add(f"{call.url}: {call.failure}"))
        page.on("response", self._note_response)

    def _note_load(self, page: Any) -> None:
        self.page_loaded = self.page_loaded or page.url.startswith(("http:", "https:"))

    def _note_console(self, message: Any) -> None:
        place = message.location.get("url", "")
        # Chromium asks every site for this by itself; that it is missing says nothing of the page.
        is_favicon = place.endswith("/favicon.ico") and message.text.startswith("Failed to load")
        if message.type == "error" and not is_favicon:
            self.console.add(f"{message.text} ({place})" if place else message.text)

    def _note_response(self, response: Any) -> None:
        if response.status >= 400:
            self.requests.add(f"{response.url}: HTTP {response.status}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" or not report.passed:
            self.tests.append(
                {
                    "id": item.nodeid,
                    "when": report.when,
                    "outcome": report.outcome,
                    "page_loaded": self.page_loaded,
                    **_describe(call.excinfo, item.path),
                }
            )
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that could not be collected."""
        if report.failed:
            self.errors.append({"id": report.nodeid, "message": str(report.longrepr)[-4000:]})

    def pytest_sessionfinish(self) -> None:
        """Write the report."""
        text = json.dumps(
            {
                "tests": self.tests,
                "errors": self.errors,
                "console": self.console.kept,
                "console_count": self.console.count,
                "requests": self.requests.kept,
                "requests_count": self.requests.count,
            }
        )
        Path(os.environ["CHIMERA_PROOF_REPORT"]).write_text(text)


def _describe(caught: pytest.ExceptionInfo[BaseException] | None, test: Path) -> dict[str, Any]:
    if caught is None:
        return {}
    entries = [entry for entry in caught.traceback if entry.path == test]
    source = ""
    with contextlib.suppress(Exception):  # a test may have changed its own file meanwhile
        source = str(entries[-1].statement)[:2000] if entries else ""
    return {
        "classes": [f"{kind.__module__}.{kind.__qualname__}" for kind in caught.type.__mro__],
        "message": str(caught.value)[:4000],
        "line": entries[-1].lineno + 1 if entries else 0,
        "source": source,
    }


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Come last, so that our fixtures win over those of pytest-playwright."""
    config.pluginmanager.register(OurBrowser(), "chimera-browser")
    config.pluginmanager.register(Recorder(), "chimera-recorder")
