"""A failed assertion in words. The messages are those of Playwright 1.65 and pytest 9."""

from __future__ import annotations

import pytest

from tasks.workspace import failure

LOG = "\nCall log:\n  - "
BUTTON = 'get_by_role("button")'

EXPECTED = {
    "nothing there": (
        f"""Locator expected to have text 'Spring sale'\nActual value: None
Error: element(s) not found {LOG}Expect "to_have_text" get_by_role("status") with timeout 300ms
  - waiting for get_by_role("status")\n\nAria snapshot:\n- heading "Hello" [level=1]""",
        ("to have text 'Spring sale'", 'get_by_role("status")', "no such element"),
    ),
    "another text": (
        f"""Locator expected to contain text 'Spring sale'\nActual value: Old {LOG}Expect \
"to_contain_text" get_by_role("status") with timeout 300ms
  - waiting for get_by_role("status")\n      - unexpected value "Old\"""",
        ("to contain text 'Spring sale'", 'get_by_role("status")', "'Old'"),
    ),
    "several texts": (
        f"""Locator expected to have text '['a', 'b']'\nActual value: ['q', 'r'] {LOG}Expect \
"to_have_text" locator("a") with timeout 300ms\n  - waiting for locator("a")""",
        ("to have text ['a', 'b']", 'locator("a")', "['q', 'r']"),
    ),
    "a pattern": (
        f"""Locator expected to have text 're.compile('Spr')'\nActual value: Old {LOG}Expect \
"to_have_text" locator("a") with timeout 300ms""",
        ("to have text re.compile('Spr')", 'locator("a")', "'Old'"),
    ),
    "hidden": (
        f"""Locator expected to be visible\nActual value: hidden {LOG}Expect "to_be_visible" \
{BUTTON} with timeout 300ms\n  - waiting for {BUTTON}""",
        ("to be visible", BUTTON, "hidden"),
    ),
    "not hidden": (
        f"""Locator expected not to be visible\nActual value: visible {LOG}Expect \
"not_to_be_visible" locator("h1") with timeout 300ms""",
        ("not to be visible", 'locator("h1")', "visible"),
    ),
    "no attribute": (
        f"""Locator expected to have attribute 'x'\nActual value: None {LOG}Expect \
"to_have_attribute" locator("h1") with timeout 300ms""",
        ("to have attribute 'x'", 'locator("h1")', "None"),
    ),
    "too many": (
        f"""Locator expected to have text 'w'\nActual value: None
Error: strict mode violation: locator("a") resolved to 2 elements:
    1) <a href="/">q</a> aka get_by_role("link", name="q")\n {LOG}Expect "to_have_text" \
locator("a") with timeout 300ms""",
        (
            "to have text 'w'",
            'locator("a")',
            'strict mode violation: locator("a") resolved to 2 elements',
        ),
    ),
    "title": (
        f"""Page title expected to be 'X'\nActual value: Shop {LOG}Expect "to_have_title" with \
timeout 300ms\n    5 × locator resolved to <html>…</html>""",
        ("to be 'X'", "the page's title", "'Shop'"),
    ),
    "older log": (
        f"""Locator expected to be visible\nActual value: hidden {LOG}LocatorAssertions.\
to_be_visible with timeout 300ms\n  - waiting for locator("button")""",
        ("to be visible", 'locator("button")', "hidden"),
    ),
    "click on nothing": (
        f"Locator.click: Timeout 300ms exceeded.{LOG}waiting for {BUTTON}\n",
        ("to be ready for click", BUTTON, "no such element within 300 ms"),
    ),
    "click on something hidden": (
        f"""Locator.click: Timeout 300ms exceeded.{LOG}waiting for {BUTTON}
    - locator resolved to <button hidden="">X</button>\n  - attempting click action
    2 × waiting for element to be visible, enabled and stable\n      - element is not visible
    - retrying click action\n""",
        ("to be ready for click", BUTTON, "element is not visible within 300 ms"),
    ),
    "wait for a selector": (
        f'Page.wait_for_selector: Timeout 300ms exceeded.{LOG}waiting for locator("#x") to be '
        "visible\n",
        ("to be visible", 'locator("#x")', "no such element within 300 ms"),
    ),
    "wait for a response": (
        'Page.expect_response: Timeout 300ms exceeded while waiting for event "response"\n'
        '==== logs ====\nwaiting for response "**/x"\n====',
        ('to give response "**/x"', "the page", "nothing within 300 ms"),
    ),
    "wait for a function": (
        "Page.wait_for_function: Timeout 300ms exceeded.",
        ("to give wait_for_function", "the page", "nothing within 300 ms"),
    ),
}

ASSERTED = {
    "equal": (
        "    assert page.title() == 'X'",
        "assert 'Shop' == 'X'\n  \n  - X\n  + Shop",
        ("page.title() == 'X'", "'Shop'", ""),
    ),
    "the other way round": (
        "assert 'X' == page.title()",
        "assert 'X' == 'Shop'",
        ("'X' == page.title()", "'Shop'", ""),
    ),
    "with the author's words": (
        "assert page.title() == 'X', 'the title is X'",
        "the title is X\nassert 'Shop' == 'X'\n  - X",
        ("page.title() == 'X'", "'Shop'", "the title is X"),
    ),
    "contained": (
        "assert 'zz' in page.inner_text('h1')",
        "assert 'zz' in 'Hello'\n +  where 'Hello' = inner_text('h1')",
        ("'zz' in page.inner_text('h1')", "'zz' in 'Hello' is not so", ""),
    ),
    "a value": (
        "assert page.locator('h2').count()",
        "assert 0\n +  where 0 = count()",
        ("page.locator('h2').count()", "0", ""),
    ),
    "negated": (
        "assert not page.is_visible('h1')",
        "assert not True\n +  where True = is_visible('h1')",
        ("not page.is_visible('h1')", "True", ""),
    ),
    "over several lines": (
        "    assert (\n        page.title()\n        == 'X'\n    )",
        "assert 'Shop' == 'X'",
        ("page.title() == 'X'", "'Shop'", ""),
    ),
    "not rewritten": ("assert page.title() == 'X'", "", ("page.title() == 'X'", "", "")),
    "no Python": ("assert (", "assert <Page> == 3", ("<Page> == 3", "", "")),
    "raised": ("raise AssertionError('own')", "own", ("", "", "own")),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_playwrights_words_are_told_apart(name: str) -> None:
    message, parts = EXPECTED[name]
    seen = failure.read({"message": message, "source": "expect(x).to_be()"})
    assert (seen.expected, seen.where, seen.actual) == parts
    assert seen.sentence == f"Expected {parts[1]} {parts[0]}; instead: {parts[2]}."
    assert seen.source == "expect(x).to_be()"


@pytest.mark.parametrize("name", ASSERTED)
def test_a_plain_assertion_is_told_by_its_source_and_its_values(name: str) -> None:
    source, message, parts = ASSERTED[name]
    seen = failure.read({"message": message, "source": source})
    assert (seen.expected, seen.actual, seen.message) == parts
    assert seen.where == ""


def test_an_expectation_with_the_authors_words_keeps_both() -> None:
    message = (
        "the sale is announced\nExpected value: 'w'\nActual value: Hello "
        f'{LOG}Expect "to_have_text" locator("h1") with timeout 300ms'
    )
    assert failure.read({"message": message}).sentence == (
        "“the sale is announced” does not hold: "
        "expected locator(\"h1\") to have text 'w'; instead: 'Hello'."
    )


def test_the_source_keeps_its_lines_and_loses_its_indentation() -> None:
    source = "    assert (\n        1\n        == 2\n    )\n"
    assert failure.read({"source": source}).source == "assert (\n    1\n    == 2\n)"


WILD = [
    "(" * 5000,
    "-" * 5000,
    "assert " + "not " * 3000 + "x",
    "\nActual value: " * 1000,
    "\0\x1b[31m\x9b1m\x1b]0;t\x07\u202e\ud800",
    f"Locator.click: Timeout 3ms exceeded.{LOG}waiting for " + "to be visible " * 500,
    "Locator expected " + "'[" * 1_000_000 + "\nActual value: x" + LOG,
    "'[" * 1900 + "\nActual value: x" + LOG,
    f"{LOG}Expect " * 500 + "\nActual value: " * 500 + LOG,
]


@pytest.mark.parametrize("number", range(len(WILD)))
def test_wild_text_is_bounded_and_made_plain(number: int) -> None:
    wild = WILD[number]
    for report in ({"message": wild, "source": wild}, {"message": f"{wild}\nassert {wild}"}):
        seen = failure.read(report)
        told = "".join(seen.as_json().values())
        assert len(told) <= 2000
        assert told.replace("\n", "").isprintable()


@pytest.mark.parametrize("report", [{}, {"message": None, "source": 3}, {"message": ["x"]}])
def test_a_report_of_another_form_breaks_nothing(report: dict[str, object]) -> None:
    assert failure.read(report).where == ""
