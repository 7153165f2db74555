"""A way back to the top is asked for in many words."""

from __future__ import annotations

import pytest

from tasks.agents.playbooks import recognition

PLAYBOOKS = recognition.load_all()
[BACK_TO_TOP] = [entry for entry in PLAYBOOKS if entry.name == "back_to_top"]

REQUESTS = [
    "Add a back to top button",
    "back-to-top button",
    "Back to the top",
    "Scroll to top button",
    "A scroll-to-the-top button, please",
    "Users should be able to jump back to the top of the page",
    "Button that scrolls to the top",
    "Let readers jump to the top",
    "I want a button that takes me back to the top of the page",
    "Back-to-top button that appears after scrolling down",
    "A floating button to go back to the top when I scroll down",
    'add a "back to top" button on every page',
    "Back to top button that respects prefers-reduced-motion",
    "a keyboard accessible back to top button",
    "Give people a button to return to the top",
    "When I scroll down a long page I want a way to go back to the top",
    "Smoothly scroll back to top with one click",
    "jump to top button in the bottom right corner",
    "When users have scrolled down, show a back to top button",
    "back up to the top",
    "back to top btn",
    "Please make a button for go to top",
    "scroll to top button pls",
    "Long pages need a back to top button",
    "a button which scrolls the page to the top",
    "Users can return to the top of the page",
]

NEAR_MISSES = [
    "back to top of the charts page",
    "Remove the back to top button",
    "No back to top button",
    "Back to top link",
    "Back to the top shelf",
    "Top 10 books page",
    "Scroll to top when the page changes",
    "Back to top button in the footer",
    "Back to top button with a rocket icon",
    "Scroll to bottom button",
    "Back to top and back to bottom buttons",
    "Button that scrolls to the reviews",
    "Get back to the top of the rankings",
    "The page should scroll to the top",
    "Back to top button on mobile only",
    "Fix the back to top button",
    "back to top and a search box",
    "Back to top button that shows the progress",
    "Move the logo to the top",
    "Sticky navigation at the top",
    "Back to top without JavaScript",
    "top",
    "Laptop button",
    "Back to top button in the bottom left corner",
    "back to top and scroll down buttons",
    "Put the button to the top",
    "Back to top sellers",
    "Bring the search back to the top of the page",
    "Go to the top of the page when the form is submitted",
    "back to school",
    "bring the site back to the top",
    "our site needs to get back to the top",
    "we want to go back to the top",
    "back to the top of our site",
    "Back to the top of Google",
    "back to the top 10",
    "back to the top floor",
    "Let users create a back to top button",
    "Back-to-top button after 2 screens",
    "zurück nach oben",
    "back to top without a button",
    "back to top button except on the start page",
    "let users jump to the top story",
    "go to the top when people return",
]


@pytest.mark.parametrize("feature", REQUESTS)
def test_a_request_for_a_way_back_to_the_top_is_recognised(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is BACK_TO_TOP


@pytest.mark.parametrize("feature", NEAR_MISSES)
def test_a_near_miss_is_refused(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is None
