"""A small site in a real repository, and scripted agents to work on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

TEST = """\
from playwright.sync_api import expect


def test_the_banner(page, base_url):
    page.goto(base_url + "{start_path}")
    expect(page.get_by_role("status")).to_have_text("{feature}", timeout=1000)
"""

PAGE = """\
<!doctype html>
<html lang="en"><head><title>Shop</title></head>
<body><h1>Shop</h1>{banner}</body></html>
"""

OWN_TEST = """\
from pathlib import Path


def test_the_shop_has_a_name():
    assert "<h1>Shop</h1>" in Path("index.html").read_text()


def test_that_fails_already():
    assert Path("nothing").exists()
"""

SERVE = "python -m http.server {port} --bind 127.0.0.1"
BANNER = '<p role="status">{feature}</p>'


def make_repository(folder: Path, files: dict[str, str] | None = None) -> Path:
    """Make a Git repository with one commit; by default that of a small shop."""
    content = files or {"index.html": PAGE.format(banner=""), "tests/test_shop.py": OWN_TEST}
    write(folder, content)
    for words in (
        ("init", "-q", "-b", "main"),
        ("add", "-A"),
        ("-c", "user.name=Ann", "-c", "user.email=ann@localhost", "commit", "-qm", "Open"),
    ):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    return folder


def write(folder: Path, files: dict[str, str]) -> None:
    """Write files by their relative paths."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def good_author(folder: Path, test: str = TEST) -> None:
    """Script an author whose test asks for a banner that holds the feature's text."""
    write(folder, {"author/files/@test_path@": test})


def good_coder(folder: Path) -> None:
    """Script a coder who puts up that banner."""
    write(folder, {"coder/files/index.html": PAGE.format(banner=BANNER)})
