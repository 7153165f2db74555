"""What playbooks insert: safe in every kind of template, in its place, and only once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.agents import playbook_runner as runner
from tasks.agents.playbooks import markup, recognition

PLAYBOOKS = {entry.name: entry for entry in recognition.load_all()}

LAYOUT = """<!doctype html>
<html lang="en">
<head><title>{% block title %}{% endblock %}</title></head>
<body>
  <main>
    {% block content %}{% endblock %}
  </main>
  <footer>{{ year }}
  </footer>
</body>
</html>
"""

# The end of what stands before the block, and what still comes after it.
PLACES = {
    "back_to_top": ("</footer>", "</body>"),
    "contact_form": ("{% endblock %}", "</main>"),
    "cookie_notice": ("</footer>", "</body>"),
    "newsletter": ("{{ year }}", "</footer>"),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_it_inserts_is_safe_in_any_template_and_asks_for_nothing_from_elsewhere(name):
    for insert in PLAYBOOKS[name].inserts:
        snippet = (PLAYBOOKS[name].folder / insert.file).read_text()
        assert not any(sign in snippet for sign in markup.TEMPLATE_SIGNS)
        assert "://" not in snippet
        assert "<h1" not in snippet


@pytest.mark.parametrize("name", PLACES)
def test_it_plays_on_a_layout_of_another_framework_and_twice_is_as_good_as_once(
    name, tmp_path: Path
):
    layout = tmp_path / "app" / "templates" / "layout.html"
    layout.parent.mkdir(parents=True)
    layout.write_text(LAYOUT)
    brief = {"role": "coder", "feature": "", "start_path": "/", "findings": []}
    runner.change_site(tmp_path, PLAYBOOKS[name], brief)
    once = layout.read_text()
    before, block, after = once.partition(f"<!-- playbook:{name} -->")
    assert block
    assert before.rstrip().endswith(PLACES[name][0])
    assert PLACES[name][1] in after
    assert markup.without_blocks(once, name) == LAYOUT

    runner.change_site(tmp_path, PLAYBOOKS[name], brief)
    assert layout.read_text() == once
