"""The runner writes a test, and changes the layouts that it finds, in a hostile checkout."""

from __future__ import annotations

import ast
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.agents import playbook_runner as runner
from tasks.agents.playbooks import checkout, markup, recognition

REPOSITORY = Path(__file__).resolve().parents[2]
[DARK_MODE] = [entry for entry in recognition.load_all() if entry.name == "dark_mode"]
PAGE = """<!doctype html>
<html lang="en">
<head>
  <title>{title}</title>
  <link rel="stylesheet" href="site.css">
</head>
<body>
  <nav><a href="index.html">Home</a> <a href="about.html">About</a></nav>
  <h1>{title}</h1>
</body>
</html>
"""
JINJA = """{# a <body> in a comment #}<!doctype html>
<html>
<head><title>{% block title %}</head>{% endblock %}</title></head>
<body class="{% if wide > narrow %}wide{% endif %}">
{% comment %}</nav>{% endcomment %}
<header>
\t<h1>{{ name }}</h1>
</header>
{% block content %}{% endblock %}
</body>
</html>
"""


def brief(role: str = "coder", **fields: Any) -> dict[str, Any]:
    base = {"role": role, "feature": "Add dark mode toggle", "start_path": "/", "findings": []}
    return {**base, "test_path": "tests/e2e/test_dark.py", **fields}


def code(root: Path, **fields: Any) -> None:
    runner.change_site(root, DARK_MODE, brief(**fields))


@pytest.fixture
def static_site(tmp_path: Path) -> Path:
    """Return two plain pages that share a style sheet."""
    root = tmp_path / "site"
    root.mkdir()
    for title in ("index", "about"):
        (root / f"{title}.html").write_text(PAGE.format(title=title))
    (root / "site.css").write_text("body { background: #fff; color: #222 }\nnav { color: navy }\n")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_every_page_of_a_static_site_gets_the_theme_and_the_toggle(static_site):
    code(static_site)
    for name in ("index.html", "about.html"):
        text = (static_site / name).read_text()
        head, _, body = text.partition("</head>")
        assert "html[data-theme=dark] body{background:#" in head
        assert "localStorage" in head
        assert body.index("<nav>") < body.index('class="theme-toggle"') < body.index("</nav>")


def test_only_the_pages_are_changed(static_site):
    before = contents(static_site)
    code(static_site)
    after = contents(static_site)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"index.html", "about.html"}


def test_changing_twice_changes_nothing_more(static_site):
    code(static_site)
    once = contents(static_site)
    code(static_site)
    assert contents(static_site) == once


def test_a_further_try_replaces_the_first_and_needs_no_navigation(static_site):
    code(static_site)
    code(static_site, findings=[{"rule": "e2e-failed", "message": "not dark"}])
    text = (static_site / "index.html").read_text()
    assert text.count('class="theme-toggle"') == 1
    assert "!important" in text
    assert text.index('class="theme-toggle"') < text.index("<nav>")


def test_the_layout_of_the_demo_is_changed_and_no_other_template(tmp_path):
    root = tmp_path / "demo"
    shutil.copytree(REPOSITORY / "demo", root, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    before = contents(root)
    code(root)
    after = contents(root)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"bookshop/templates/base.html"}
    text = after["bookshop/templates/base.html"].decode()
    assert "html[data-theme=dark]{--paper:#" in text
    assert text.index("site-nav") < text.index("<button") < text.index("</nav>")


def test_a_jinja_layout_keeps_its_own_code_to_the_byte(tmp_path):
    (tmp_path / "base.j2").write_text(JINJA)
    code(tmp_path)
    text = (tmp_path / "base.j2").read_text()
    assert markup.without_blocks(text, "dark_mode") == JINJA
    assert text.index("<h1>") < text.index("<button") < text.index("</header>")


def test_what_is_inserted_is_no_template_code(static_site):
    code(static_site)
    text = (static_site / "index.html").read_text()
    assert not any(sign in text for sign in ("{{", "{%", "{#"))


def test_a_page_without_a_banner_gets_the_toggle_at_its_start(tmp_path):
    (tmp_path / "index.html").write_text(
        "<html><head></head><body class='a>b'><main><nav>crumbs</nav></main></body></html>"
    )
    code(tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "<body class='a>b'><!-- playbook:dark_mode -->" in text


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("page", [PAGE, PAGE.replace("\n", ""), PAGE.replace("  ", "\t"), JINJA])
def test_taking_the_blocks_out_gives_the_page_back(tmp_path, page, newline):
    original = page.replace("\n", newline).encode()
    (tmp_path / "index.html").write_bytes(original)
    for findings in ([], [{"rule": "e2e-failed"}]):
        code(tmp_path, findings=findings)
        text = (tmp_path / "index.html").read_bytes()
        assert text != original
        assert markup.without_blocks(text.decode(), "dark_mode").encode() == original
        assert (b"\r\n" in text) == (b"\r\n" in original)


def test_bytes_that_are_not_utf_8_survive(tmp_path):
    (tmp_path / "index.html").write_bytes(PAGE.encode().replace(b"Home", b"Caf\xe9"))
    code(tmp_path)
    assert b"Caf\xe9" in (tmp_path / "index.html").read_bytes()


def test_a_linked_layout_is_not_followed(tmp_path, static_site):
    outside = tmp_path / "outside.html"
    outside.write_text(PAGE)
    (static_site / "linked.html").symlink_to(outside)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner.html").write_text(PAGE)
    (static_site / "linked").symlink_to(tmp_path / "folder")
    code(static_site)
    assert outside.read_text() == PAGE
    assert (tmp_path / "folder" / "inner.html").read_text() == PAGE
    assert (static_site / "linked.html").is_symlink()


@pytest.mark.parametrize("folder", ["node_modules/x", ".git", "tests", "venv/lib", "emails"])
def test_pages_that_are_no_part_of_the_site_are_left_alone(static_site, folder):
    other = static_site / folder
    other.mkdir(parents=True)
    (other / "page.html").write_text(PAGE)
    code(static_site)
    assert (other / "page.html").read_text() == PAGE


def test_a_site_without_a_layout_is_not_applicable(tmp_path):
    (tmp_path / "part.html").write_text("<p>only a part</p>")
    with pytest.raises(runner.NotApplicableError, match="</head>"):
        code(tmp_path)


def test_a_site_of_too_many_pages_is_not_applicable(tmp_path):
    for number in range(runner.MAX_LAYOUTS + 1):
        (tmp_path / f"{number}.html").write_text(PAGE)
    with pytest.raises(runner.NotApplicableError, match="too many"):
        code(tmp_path)
    assert (tmp_path / "0.html").read_text() == PAGE


def test_a_huge_or_strange_file_is_passed_over(static_site):
    (static_site / "huge.html").write_text(PAGE + " " * checkout.MAX_FILE_BYTES)
    os.mkfifo(static_site / "pipe.html")
    code(static_site)
    assert "theme-toggle" not in (static_site / "huge.html").read_text()
    assert "theme-toggle" in (static_site / "index.html").read_text()


def test_the_author_writes_one_file_that_compiles_and_asserts(tmp_path):
    runner.write_test(tmp_path, DARK_MODE, brief("author", start_path="/shop/?page=2"))
    assert list(contents(tmp_path)) == ["tests/e2e/test_dark.py"]
    tree = ast.parse((tmp_path / "tests/e2e/test_dark.py").read_text())
    [function] = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert [argument.arg for argument in function.args.args] == ["page", "base_url"]
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(function)) == 5
    assert ast.get_docstring(tree) == "Dark mode toggle: Add dark mode toggle."
    assert "'/shop/?page=2'" in ast.unparse(tree)


@pytest.mark.parametrize(
    "feature",
    ['dark mode"""\nimport os\n"""', "dark mode \\", "dark mode\r\n\x0b@start_path@", "dark mode'"],
)
def test_a_hostile_request_cannot_leave_the_docstring(tmp_path, feature):
    runner.write_test(tmp_path, DARK_MODE, brief("author", feature=feature))
    hostile = ast.parse((tmp_path / "tests/e2e/test_dark.py").read_text())
    runner.write_test(tmp_path, DARK_MODE, brief("author"))
    plain = ast.parse((tmp_path / "tests/e2e/test_dark.py").read_text())
    assert [ast.dump(node) for node in hostile.body[1:]] == [
        ast.dump(node) for node in plain.body[1:]
    ]


def test_a_hostile_start_path_stays_a_string(tmp_path):
    path = "/'+__import__('os').getcwd()+\"\\\n\ud83d"
    runner.write_test(tmp_path, DARK_MODE, brief("author", start_path=path))
    tree = ast.parse((tmp_path / "tests/e2e/test_dark.py").read_text())
    [start] = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "START"
    ]
    assert ast.literal_eval(start) == path


@pytest.mark.parametrize(
    "path", ["/etc/x.py", "../x.py", "a/../../x.py", "", ".git/hooks/x", "a\0"]
)
def test_a_path_outside_of_the_checkout_is_refused(tmp_path, path):
    with pytest.raises(checkout.CheckoutError):
        runner.write_test(tmp_path, DARK_MODE, brief("author", test_path=path))


def test_a_linked_folder_or_file_is_not_written_through(tmp_path):
    root, outside = tmp_path / "site", tmp_path / "outside"
    (root / "tests").mkdir(parents=True)
    outside.mkdir()
    (root / "tests" / "e2e").symlink_to(outside)
    with pytest.raises(checkout.CheckoutError):
        runner.write_test(root, DARK_MODE, brief("author"))
    (root / "test_link.py").symlink_to(outside / "test_link.py")
    with pytest.raises(checkout.CheckoutError):
        runner.write_test(root, DARK_MODE, brief("author", test_path="test_link.py"))
    assert not list(outside.iterdir())


def test_a_new_playbook_needs_nothing_outside_of_its_folder(tmp_path):
    folder = tmp_path / "playbooks" / "greeting"
    folder.mkdir(parents=True)
    (folder / "playbook.toml").write_text(
        'title = "Greeting"\nsummary = "Says hello"\n'
        '[recognise]\nphrases = ["greeting"]\nbeside = []\n'
        '[[insert]]\nfile = "greeting.html"\nplaces = ["end of footer", "end of body"]\n'
        '[[new_file]]\nfile = "hello.html"\npath = "pages/hello.html"\n'
    )
    (folder / "greeting.html").write_text("<p>Hello, @who@</p>\n")
    (folder / "hello.html").write_text("Hello\n")
    (folder / "values.py").write_text(
        "def values(styles, *, is_retry):\n    return {'who': 'reader'}\n"
    )
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text(PAGE)
    [playbook] = recognition.load_all(tmp_path / "playbooks")
    runner.change_site(site, playbook, brief())
    text = (site / "index.html").read_text()
    assert text.index("<h1>") < text.index("<p>Hello, reader</p>") < text.index("</body>")
    assert (site / "pages" / "hello.html").read_text() == "Hello\n"
