"""A pytest plugin: end-to-end tests that Chimera wrote run by hand, in the system's Chromium.

pytest-playwright looks for a browser of its own download and nothing else. With this plugin,
`pytest -p chimera_daemon.browser_plugin FILE --base-url URL` takes CHIMERA_CHROMIUM or the
system's browser instead. Proofs do not use it: they have a plugin of their own.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE *.localhost, EXCLUDE localhost, "
    "EXCLUDE 127.0.0.1",
)


class SystemBrowser:
    """Stands in for the launch arguments of pytest-playwright."""

    @pytest.fixture(scope="session")
    @classmethod
    def browser_type_launch_args(cls, pytestconfig: pytest.Config) -> dict[str, Any]:
        """Start the system's browser, quiet, with nothing but local sites to go to."""
        headed = bool(pytestconfig.getoption("--headed", default=False))
        return {"executable_path": find_browser(), "args": list(FLAGS), "headless": not headed}


def find_browser() -> str | None:
    """Return the path of CHIMERA_CHROMIUM or of the system's browser; None if there is none."""
    chosen = os.environ.get("CHIMERA_CHROMIUM")
    names = (chosen,) if chosen else NAMES
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Come after pytest-playwright, so that our fixture wins; do nothing without either."""
    if config.pluginmanager.hasplugin("playwright") and find_browser():
        config.pluginmanager.register(SystemBrowser(), "chimera-system-browser")
