"""Two small sites that no playbook was made for: plain HTML files, and a Flask application."""

from __future__ import annotations

# Hand-written pages of the old kind: no landmark elements, a menu in a table, floats, sub-folders.
FERRY_PAGE = """\
<!DOCTYPE HTML>
<HTML lang="en">
<HEAD>
<META charset="utf-8">
<TITLE>{title} - Skerry Ferries</TITLE>
<LINK rel="stylesheet" href="{up}css/ferry.css">
</HEAD>
<BODY id="page">
<DIV id="frame">
<TABLE id="masthead"><TR>
<TD class="logo"><A href="{up}index.html">Skerry Ferries</A></TD>
<TD class="links"><A href="{up}timetable.html">Timetable</A> | <A href="{up}fares.html">Fares</A>
| <A href="{up}islands/gull.html">Gull Island</A></TD>
</TR></TABLE>
<DIV class="text">
<H1>{title}</H1>
{text}
</DIV>
<P class="small">Skerry Ferries, the old pier. Telephone 555 0142.</P>
</DIV>
</BODY>
</HTML>
"""
FERRY_STYLE = """\
BODY { margin: 0; background: #dfe9ee; color: #10242e; font: 16px/1.5 Verdana, sans-serif }
#frame { width: 90%; max-width: 760px; margin: 0 auto; background: #FFFFFF; padding: 0 20px 20px }
#masthead { width: 100%; border-bottom: 4px double navy }
.logo a { color: navy; font-size: 24px; text-decoration: none; font-variant: small-caps }
.links { text-align: right }
.text a, .links a { color: #0b5a8a }
.text table { border-collapse: collapse; width: 100% }
.text th { background: #cfe3ee; text-align: left }
.text td, .text th { border: 1px solid #9bb; padding: 4px 8px }
.warning { float: right; width: 40%; margin: 0 0 12px 16px; padding: 8px; background: #fff6cc }
.small { clear: both; border-top: 1px solid #9bb; font-size: 12px; color: #567 }
input, button { text-transform: none }
"""
_FERRY_PAGES = {
    "index.html": (
        "Three boats, four islands",
        "<P class=warning>No boats in a force nine.</P>\n"
        "<P>We have carried people, post and sheep since 1921. Buy a ticket on board.\n"
        '<P>See the <A href="timetable.html">timetable</A> before you run.',
    ),
    "timetable.html": (
        "Timetable",
        "<TABLE><TR><TH>Boat<TH>Leaves<TH>Comes back\n"
        "<TR><TD>Kittiwake<TD>07:40<TD>11:05\n<TR><TD>Fulmar<TD>13:15<TD>18:30</TABLE>",
    ),
    "fares.html": ("Fares", "<P>Adults four crowns, children and dogs one, bicycles nothing."),
    "islands/gull.html": (
        "Gull Island",
        '<P>A lighthouse, a tea room, and <A href="../fares.html">a cheap day out</A>.',
    ),
}


def ferry() -> dict[str, str]:
    """Return the files of the plain site, to be served by `python -m http.server`."""
    pages = {
        path: FERRY_PAGE.format(title=title, text=text, up="../" * path.count("/"))
        for path, (title, text) in _FERRY_PAGES.items()
    }
    return {**pages, "css/ferry.css": FERRY_STYLE}


ALLOTMENT_APP = '''\
"""The society's noticeboard."""

from flask import Blueprint, Flask, abort, render_template

PLOTS = {
    "north": ("North field", "Heavy clay, and the only tap that never freezes."),
    "railway": ("Railway side", "Long thin plots; the 9:14 will wave at you."),
    "orchard": ("Old orchard", "Shade, windfalls, wasps."),
}
board = Blueprint("board", __name__)


@board.get("/")
def start():
    return render_template("board/start.jinja", plots=PLOTS)


@board.get("/plots/<key>")
def plot(key):
    if key not in PLOTS:
        abort(404)
    name, text = PLOTS[key]
    return render_template("board/plot.jinja", name=name, text=text)


@board.get("/rules")
def rules():
    return render_template("board/rules.jinja")


def create_app():
    app = Flask(__name__)
    app.register_blueprint(board)
    app.context_processor(lambda: {"plots": PLOTS})
    return app
'''
ALLOTMENT_LAYOUT = """\
{% from "_macros.jinja" import entry %}
<!doctype html>
<html lang="en" class="no-js">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>{% block title %}{% endblock %}Plot &amp; Spade</title>
    <link rel="stylesheet" href="{{ url_for('static', filename='tokens.css') }}">
    <link rel="stylesheet" href="{{ url_for('static', filename='shell.css') }}">
    {% block extra_head %}{% endblock %}
  </head>
  <body class="shell {% block page_class %}{% endblock %}">
    <aside class="rail">
      <p class="rail__name">Plot &amp; Spade</p>
      <nav class="rail__menu" aria-label="Sections">
        {{ entry("board.start", "Noticeboard") }}
        {{ entry("board.rules", "House rules") }}
        <span class="rail__label">Fields</span>
        {%- for key, (name, text) in plots.items() %}
        {{ entry("board.plot", name, key=key) }}
        {%- endfor %}
      </nav>
    </aside>
    <main class="sheet">
      {% with messages = get_flashed_messages() %}{% if messages %}
      <ul class="sheet__flashes">{% for text in messages %}<li>{{ text }}</li>{% endfor %}</ul>
      {% endif %}{% endwith %}
      <div class="sheet__inner">{% block sheet %}{% endblock %}</div>
      <footer class="sheet__end">The gate is locked at dusk.</footer>
    </main>
  </body>
</html>
"""
ALLOTMENT_SHELL = """\
*, *::before, *::after { box-sizing: inherit; }
html { box-sizing: border-box; font: 106%/1.6 Georgia, serif; }
.shell {
  display: grid; grid-template-columns: 15rem minmax(0, 1fr); min-height: 100vh; margin: 0;
  background: var(--paper); color: var(--ink);
}
.rail {
  position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.5rem;
  background: var(--leaf); color: var(--paper);
}
.rail__name { margin: 0 0 1rem; font-size: 1.4rem; font-style: italic; }
.rail__menu { display: flex; flex-direction: column; gap: .35rem; }
.rail__menu a { color: inherit; text-decoration: none; }
.rail__menu a:hover { text-decoration: underline; }
.rail__label { margin-top: 1rem; font-size: .75rem; letter-spacing: .1em; opacity: .8; }
.sheet { display: flex; flex-direction: column; padding: 2.5rem clamp(1rem, 5vw, 4rem); }
.sheet__inner { flex: 1; max-width: 42rem; }
.sheet__inner h1 { color: var(--leaf); line-height: 1.15; }
.sheet__end { margin-top: 3rem; border-top: 1px solid var(--line); font-size: .85rem; }
@media (max-width: 40rem) {
  .shell { grid-template-columns: minmax(0, 1fr); }
  .rail { position: static; height: auto; }
}
"""
ALLOTMENT_TEST = """\
import pytest
from allotment import PLOTS, create_app


@pytest.fixture
def client():
    return create_app().test_client()


@pytest.mark.parametrize("path", ["/", "/rules", *(f"/plots/{key}" for key in PLOTS)])
def test_the_page_is_there(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert "The gate is locked at dusk." in answer.text


def test_an_unknown_field_is_not_found(client):
    assert client.get("/plots/moon").status_code == 404
"""
ALLOTMENT = {
    "requirements.txt": "flask==3.1.3\npytest>=8\n",
    "allotment/__init__.py": ALLOTMENT_APP,
    "allotment/templates/layout.jinja": ALLOTMENT_LAYOUT,
    "allotment/templates/_macros.jinja": (
        "{% macro entry(view, label) %}"
        '<a class="rail__link" href="{{ url_for(view, **kwargs) }}">{{ label }}</a>'
        "{% endmacro %}\n"
    ),
    "allotment/templates/board/start.jinja": (
        '{% extends "layout.jinja" %}\n'
        "{% block sheet %}\n<h1>This week on the plots</h1>\n"
        "<p>Seed potatoes have come. Bring your own sacks, and your own patience.</p>\n"
        "<ul>{% for key, (name, text) in plots.items() %}\n"
        "<li><a href=\"{{ url_for('board.plot', key=key) }}\">{{ name }}</a>: {{ text }}</li>\n"
        "{% endfor %}</ul>\n{% endblock %}\n"
    ),
    "allotment/templates/board/plot.jinja": (
        '{% extends "layout.jinja" %}\n'
        "{% block title %}{{ name }} · {% endblock %}\n"
        "{% block sheet %}<h1>{{ name }}</h1>\n<p>{{ text }}</p>{% endblock %}\n"
    ),
    "allotment/templates/board/rules.jinja": (
        '{% extends "layout.jinja" %}\n'
        "{% block title %}House rules · {% endblock %}\n"
        "{% block sheet %}<h1>House rules</h1>\n"
        "<ol><li>No bonfires before noon.<li>Water from the butt first.</ol>{% endblock %}\n"
    ),
    "allotment/static/tokens.css": (
        ":root { --paper: #fbf7ec; --ink: #2c2a22; --leaf: #2f5d3a; --line: #d8cfb4; }\n"
    ),
    "allotment/static/shell.css": ALLOTMENT_SHELL,
    "checks/test_pages.py": ALLOTMENT_TEST,
}
