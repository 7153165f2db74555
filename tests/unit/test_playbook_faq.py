"""Which requests are for the FAQ, and which only sound like it; where its section is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.agents import playbook_runner
from tasks.agents.playbooks import recognition

PLAYBOOKS = recognition.load_all()

MEANT = [
    "FAQ accordion",
    "Add an FAQ section to the home page",
    "FAQs",
    "Could we have frequently asked questions on the front page?",
    "An accessible FAQ accordion, reachable by keyboard",
    "a collapsible FAQ at the bottom of the page",
    "We'd like a Q&A section",
    "Please add a keyboard-accessible FAQ",
    "As a customer I want an FAQ so that I can find answers quickly",
    "Add an FAQ about delivery, returns and contact",
    "FAQ with common questions where clicking a question shows the answer",
    "A questions and answers accordion for our visitors",
    "faq list: each question opens and closes by keyboard or mouse",
    "Let users expand the FAQ answers",
    "FAQ section pls",
    "F.A.Q.",
    "As a customer I want to read frequently asked questions",
    "Users can open and close questions in an FAQ",
    "“Frequently Asked Questions” section",
]

NEAR_MISSES = [
    "FAQ chatbot",
    "FAQ page",
    "Remove the FAQ",
    "FAQ without an accordion",
    "No FAQ",
    "searchable FAQ",
    "FAQ with a search box",
    "FAQ in German",
    "FAQ written by AI",
    "Accordion menu",
    "An accordion",
    "Ask a question form",
    "Question of the day",
    "Let customers submit questions",
    "Users can rate the FAQ answers",
    "FAQ schema markup",
    "Edit the FAQ in the admin",
    "Import the FAQ from CSV",
    "Security questions",
    "Quiz with questions and answers",
    "FAQ only for members",
    "Link to the FAQ in the footer",
    "FAQ and a contact form",
    "infrequently asked questions",
    "",
    "FAQ about newsletters",
    "FAQ about cookies",
    "Let users add an FAQ",
    "people can add frequently asked questions",
    "users can make an FAQ",
    "FAQ except shipping",
    "FAQ instead of a contact form",
    "Häufige Fragen",
    "10 FAQs",
    "FAQ bot",
    "hide the FAQ",
    "users can answer questions",
    "frequently asked questions about bees",
    "FAQ in two columns",
    "FAQ login",
]


@pytest.mark.parametrize("feature", MEANT)
def test_a_request_for_an_faq_is_recognised(feature):
    found = recognition.recognise(feature, PLAYBOOKS)
    assert found is not None
    assert found.name == "faq"


@pytest.mark.parametrize("feature", NEAR_MISSES)
def test_a_near_miss_is_refused(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is None


@pytest.mark.parametrize(
    ("start_path", "written"),
    [
        ("/", '"/"'),
        ("/shop/home.html", '"/shop/home.html"'),
        (
            '/"</script>{{ x }}',
            r'"/\u{22}\u{3c}/script\u{3e}\u{7b}\u{7b}\u{20}x\u{20}\u{7d}\u{7d}"',
        ),
    ],
)
def test_the_start_page_is_named_in_a_way_that_cannot_end_the_script(
    tmp_path: Path, start_path: str, written: str
):
    page = tmp_path / "base.html"
    page.write_text("<html><head></head><body><main></main></body></html>")
    [faq] = [entry for entry in PLAYBOOKS if entry.name == "faq"]
    playbook_runner.change_site(tmp_path, faq, {"start_path": start_path, "findings": []})
    assert f"new URL({written}, location.origin)" in page.read_text()
