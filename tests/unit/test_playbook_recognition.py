"""A request is covered only if every word of it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.agents.playbooks import recognition

PLAYBOOKS = recognition.load_all()

DARK_MODE = [
    "Add dark mode toggle",
    "could we have a night theme?",
    "Dark mode",
    "DARK MODE!!!",
    "Please add a dark-mode switch to the site.",
    "As a reader, I want a dark theme so that I can read at night",
    "I'd like to toggle between light and dark mode",
    "Let users switch between dark and light",
    "Add a button to switch to a dark colour scheme",
    "a dark color scheme, please",
    "Users should be able to turn the site dark",
    "night mode that survives a reload",
    "Dark mode toggle which remembers my choice",
    "Add a light/dark theme switcher",
    "We want a darkmode toggle on every page",
    "Dark theme across all pages, remembered after a page reload",
    "Let’s have a dark theme: it is easier on the eyes",
    "The user's site should support dark mode",
    "Give visitors a lights off switch",
    "dark\nmode\ttoggle",
    "dark mode pls",
    "it'd be lovely to have a dark theme",
    "Please make possible to change to dark theme",
    "need darkmode asap",
    "Turn dark mode on and off",
    "«Dark–mode» toggle",
    "Give the site a night mode",
    "User can switch between light and dark mode",
]

NEAR_MISSES = [
    "dark roast coffee page",
    "Remove dark mode",
    "Don't add dark mode",
    "No dark mode please",
    "dark mode and a search box",
    "Add dark mode that follows the operating system",
    "Make dark mode the default",
    "Dark mode only for the checkout",
    "Dark mode without a toggle",
    "Dark mode toggle in the footer",
    "Dark mode with a keyboard shortcut",
    "High contrast theme",
    "A sepia theme and a dark theme",
    "Fix dark mode",
    "dark mode at sunset",
    "Switch to dark mode at night",
    "Dark Knight theme page",
    "A page about dark mode",
    "Night theme party announcement",
    "Add 2 dark modes",
    "light mode toggle",
    "Make the logo dark",
    "dark mode 🚫",
    "dark mode + login",
    "Dark mode and a reload button",
    "Dunkelmodus",
    "dark mode, тёмная",
    "User can login with Google OAuth",
    "mode dark",
    "",
    "please could we have a",
    "Turn dark mode off",
    "switch off dark mode",
    "dark mode off",
    "go back from dark mode",
    "change the dark theme",
    "Let users add a dark theme",
    "let customers build a dark theme",
    "dark mode except on the start page",
    "dark mode instead of light mode",
    "Mode sombre",
    "dark mode 2.0",
    "dark mode from 8 to 6",
    "Nobody wants dark mode",
    "Everything but dark mode",
    "light bulb shop and dark mode",
    "dark chocolate theme",
    "Turn the page dark red",
    "dark mode für alle",
    "protect the eyes from dark mode",
]


@pytest.mark.parametrize("feature", DARK_MODE)
def test_a_request_for_dark_mode_is_recognised(feature):
    found = recognition.recognise(feature, PLAYBOOKS)
    assert found is not None
    assert found.name == "dark_mode"


@pytest.mark.parametrize("feature", NEAR_MISSES)
def test_a_near_miss_is_refused(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is None


def test_the_words_that_nothing_covers_are_named():
    strange = recognition.strange_words("Add dark mode and a weather map", PLAYBOOKS)
    assert strange == ["weather", "map"]


def test_the_words_that_turn_a_request_round_are_named():
    strange = recognition.strange_words("Let users add a dark theme", PLAYBOOKS)
    assert strange == ["users", "add"]


def test_no_word_is_named_when_no_playbook_is_meant():
    assert recognition.strange_words("Show the weather on Mars", PLAYBOOKS) == []


def test_a_long_request_is_read_to_its_end():
    feature = "please " * 1400
    assert recognition.recognise(feature + "dark mode", PLAYBOOKS) is not None
    assert recognition.recognise(feature + "dark mode not", PLAYBOOKS) is None


def test_a_request_for_two_playbooks_is_refused(tmp_path: Path):
    for name, word in (("bell", "bell"), ("gong", "gong")):
        _write_playbook(tmp_path / name, phrases=[word], beside=["bell", "gong"])
    playbooks = recognition.load_all(tmp_path)
    assert recognition.recognise("a bell", playbooks) is not None
    assert recognition.recognise("a bell and a gong", playbooks) is None


def test_a_broken_playbook_says_which_it_is(tmp_path: Path):
    (tmp_path / "bell").mkdir()
    (tmp_path / "bell" / "playbook.toml").write_text('title = "Bell"\n')
    with pytest.raises(recognition.PlaybookError, match=r"bell/playbook\.toml.*recognise"):
        recognition.load_all(tmp_path)


def test_no_neutral_word_turns_a_request_round():
    words = {word for phrase in recognition.neutral() for choice in phrase for word in choice}
    assert not words & {"not", "no", "never", "without", "only", "except", "instead", "remove"}


def _write_playbook(folder: Path, phrases: list[str], beside: list[str]) -> None:
    folder.mkdir()
    (folder / "playbook.toml").write_text(
        f'title = "T"\nsummary = "S"\n[recognise]\nphrases = {phrases}\nbeside = {beside}\n'
    )
