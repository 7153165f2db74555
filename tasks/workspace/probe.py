"""Try what every task needs before one needs it: the sandbox, and a browser that can paint."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tasks.workspace import browser, proof, sandbox
from tasks.workspace.process import Log, ProcessError
from tasks.workspace.site import Room

_PAINT = """
def test_it_paints(page):
    page.set_content("<h1>Chimera</h1>")
    assert page.screenshot()
"""


def find_trouble(mode: str, chromium: str, cache: Path) -> str:
    """Return why tasks could not be done on this host, in words that say what to do; "" = fine.

    `mode` and `chromium` are the options CHIMERA_SANDBOX and CHIMERA_CHROMIUM. Blocks for some
    seconds: a browser counts as found only after it has made a screenshot.
    """
    try:
        box = sandbox.find(mode)
        path = browser.find_chromium(chromium)
        return _try_browser(box, path, cache)
    except (sandbox.SandboxError, browser.BrowserError, ProcessError) as error:
        return str(error)
    except OSError as error:  # such as a disk that is full
        return f"The browser could not be tried: {error}"


def _try_browser(box: sandbox.Sandbox, path: str, cache: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="chimera-probe-") as name:
        folder = Path(name)
        (folder / "tests").mkdir()
        (folder / "tests" / "test_paint.py").write_text(_PAINT)
        results = folder / "results"
        order = browser.ProofOrder(folder / "tests", "test_paint.py", results, path, cache, 60)
        log = Log(folder / "log.txt")
        try:
            done = browser.prove(box, order, Room("http://localhost", None), log, lambda: False)
        finally:
            log.close()
        seen = proof.read(results, done)
    if seen.result == proof.Result.PASSED:
        return ""
    return f"The browser {path} could not make a screenshot: {seen.reason[:500]}"
