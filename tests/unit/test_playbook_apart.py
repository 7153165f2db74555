"""Where many plain pages share a playbook's styles and scripts, these stand in files apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.agents import playbook_runner as runner
from tasks.agents.playbooks import apart, markup, recognition

PLAYBOOKS = {entry.name: entry for entry in recognition.load_all()}
PAGE = '<html>\n<head>\n</head>\n<body>\n<p class="x">Page</p>\n</body>\n</html>\n'
MAX_CHANGED_LINES = 2000  # a project's default


def play(root: Path, name: str, *, is_retry: bool = False) -> None:
    findings = [{"rule": "e2e-failed", "message": "not there"}] if is_retry else []
    brief = {"role": "coder", "feature": "", "start_path": "/", "findings": findings}
    runner.change_site(root, PLAYBOOKS[name], brief)


def pages(root: Path, number: int, text: str = PAGE) -> Path:
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/page.html").write_text(text)
    for at in range(number - 1):
        (root / f"page{at}.html").write_text(text)
    return root


def contents(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.*")}


def test_each_page_names_the_files_from_where_it_lies(tmp_path: Path) -> None:
    play(pages(tmp_path, 4), "contact_form")
    for page, up in (("page0.html", ""), ("deep/er/page.html", "../../")):
        text = (tmp_path / page).read_text()
        assert f'<link rel="stylesheet" href="{up}contact-form.css">' in text
        assert f'<script src="{up}contact-form.js"></script>' in text
        assert "<style>" not in text
        assert "localStorage.setItem" not in text
    assert "localStorage.setItem" in (tmp_path / "contact-form.js").read_text()


def test_a_few_pages_and_templates_hold_everything_themselves(tmp_path: Path) -> None:
    few = pages(tmp_path / "few", apart.FEW_PAGES)
    templates = pages(tmp_path / "templates", 9, PAGE.replace("Page", "{{ page }}"))
    for root in (few, templates):
        play(root, "contact_form")
        assert all(name.endswith(".html") for name in contents(root))
        assert "<style>" in (root / "page0.html").read_text()


@pytest.mark.parametrize("name", sorted(PLAYBOOKS.keys() - {"login"}))
def test_forty_pages_can_be_reviewed_and_playing_twice_changes_nothing_more(
    tmp_path: Path, name: str
) -> None:
    play(pages(tmp_path, runner.MAX_LAYOUTS), name)
    once = contents(tmp_path)
    before = PAGE.count("\n") * runner.MAX_LAYOUTS
    assert sum(text.count("\n") for text in once.values()) - before <= MAX_CHANGED_LINES
    play(tmp_path, name)
    assert contents(tmp_path) == once


def test_a_further_try_does_without_the_files_and_removes_them(tmp_path: Path) -> None:
    play(pages(tmp_path, 4), "dark_mode")
    assert {"dark-mode.css", "dark-mode.js"} <= contents(tmp_path).keys()
    play(tmp_path, "dark_mode", is_retry=True)
    after = contents(tmp_path)
    assert all(name.endswith(".html") for name in after)
    assert all("<style>" in text for text in after.values())
    assert all(markup.without_blocks(text, "dark_mode") == PAGE for text in after.values())


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_of_the_site_with_that_name_is_left_alone(tmp_path: Path, kind: str) -> None:
    site = pages(tmp_path / "site", 4)
    if kind == "file":
        (site / "contact-form.css").write_text("form { color: red }\n")
    else:
        (site / "contact-form.css").symlink_to(tmp_path / "elsewhere")
    play(site, "contact_form")
    assert not (tmp_path / "elsewhere").exists()
    assert "<style>" in (site / "page0.html").read_text()
    if kind == "file":
        assert (site / "contact-form.css").read_text() == "form { color: red }\n"
