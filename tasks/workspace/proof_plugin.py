"""The pytest plugin of a proof: our browser, and the class of every failure.

JUnit's report doesn't tell a failed assertion from a broken test, so each failure is written to
CHIMERA_PROOF_REPORT with the class of its exception. Loaded by name in the sandbox, beside
pytest-playwright; it imports nothing of Chimera.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest


class OurBrowser:
    """Fixtures that stand in for pytest-playwright's: the browser, and a page that is watched."""

    @pytest.fixture(scope="session")
    @classmethod
    def browser_type_launch_args(cls) -> dict[str, Any]:
        """Start the system's Chromium with the flags that keep it quiet."""
        launch: dict[str, Any] = json.loads(os.environ["CHIMERA_BROWSER"])
        return launch


class Recorder:
    """Writes down what became of each test."""

    def __init__(self) -> None:
        self.tests: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.console: list[str] = []
        self.requests: list[str] = []
        self.page_loaded = False

    @pytest.fixture(autouse=True)
    def _watch_page(self, request: pytest.FixtureRequest) -> None:
        if "page" not in request.fixturenames:
            return
        self.page_loaded = False
        page = request.getfixturevalue("page")
        page.on("domcontentloaded", self._note_load)
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"[:500]))
        page.on("requestfailed", lambda call: self._note_request(call.url, call.failure))

    def _note_load(self, page: Any) -> None:
        self.page_loaded = self.page_loaded or page.url.startswith(("http:", "https:"))

    def _note_console(self, message: Any) -> None:
        if message.type == "error":
            self.console.append(message.text[:500])

    def _note_request(self, url: str, why: str) -> None:
        self.requests.append(f"{url}: {why}"[:500])

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
                "console": self.console[:100],
                "requests": self.requests[:100],
            }
        )
        Path(os.environ["CHIMERA_PROOF_REPORT"]).write_text(text)


def _describe(caught: pytest.ExceptionInfo[BaseException] | None, test: Path) -> dict[str, Any]:
    if caught is None:
        return {}
    lines = [entry.lineno + 1 for entry in caught.traceback if entry.path == test]
    return {
        "classes": [f"{kind.__module__}.{kind.__qualname__}" for kind in caught.type.__mro__],
        "message": str(caught.value)[:4000],
        "line": lines[-1] if lines else 0,
    }


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Come last, so that our fixtures win over those of pytest-playwright."""
    config.pluginmanager.register(OurBrowser(), "chimera-browser")
    config.pluginmanager.register(Recorder(), "chimera-recorder")
