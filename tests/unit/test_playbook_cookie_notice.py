"""A notice about cookies is asked for in many words; consent is something else."""

from __future__ import annotations

import pytest

from tasks.agents.playbooks import recognition

PLAYBOOKS = recognition.load_all()
[COOKIE_NOTICE] = [entry for entry in PLAYBOOKS if entry.name == "cookie_notice"]

REQUESTS = [
    "Add a cookie notice",
    "cookie banner",
    "COOKIE BAR!",
    "Please show a cookie pop-up to visitors",
    "Cookie notice that stays dismissed after a reload",
    "A dismissible cookie banner on every page",
    "We need a notice about cookies",
    "Tell visitors that we use cookies",
    "Inform our visitors about cookies",
    "I'd like a cookie message at the bottom of the page, please",
    "Add a small banner saying that we use cookies",
    "As a visitor, I want to see a cookie notice that I can close",
    "Cookie notification with a close button",
    "cookie banner which stays hidden once dismissed",
    "Users should be told about cookies",
    "a little cookie bar that does not come back",
    "Cookie notice: remember that it was dismissed",
    "Cookies banner that can be closed, and doesn't come back",
    "Notify users that this site uses cookies",
    "Show a cookie notice and remember the user's choice",
    "cookie banner pls",
    "Let visitors know that we use cookies",
    "A notice that we use cookies",
    "A cookie-banner that stays dismissed after a reload",
    "“We use cookies” banner",
    "Users can dismiss the cookie notice",
]

NEAR_MISSES = [
    "cookie recipe page",
    "Remove the cookie notice",
    "Don't show a cookie banner",
    "Hide the cookie banner",
    "Cookie consent banner",
    "Cookie banner with accept and reject",
    "GDPR cookie banner",
    "Cookie notice with a link to the privacy policy",
    "cookie policy page",
    "cookie notice and a search box",
    "Cookie notice only for visitors from the EU",
    "A page about cookies",
    "Let users use cookies",
    "The site should use cookies",
    "Bake sale banner with a cookie",
    "Cookie notice in French",
    "fortune cookie message of the day",
    "Cookie banner without a button",
    "Fix the cookie banner",
    "Cookie settings dialog",
    "cookie notice 🍪",
    "Cookie shop notification e-mails",
    "Stop using cookies",
    "cookies",
    "Cookie banner that blocks analytics",
    "cookie notice and dark mode",
    "Cookie message board",
    "Cookie bar menu",
    "A bar about cookies and coffee",
    "Show the cookie pop-up once per session",
    "Show the cookie notice after every reload",
    "cookie notice that stays",
    "cookie notice that survives every reload",
    "The cookie notice stays away",
    "Users can add a cookie notice",
    "let users put a cookie banner on the website",
    "cookie notice that comes back",
    "cookie cutter form",
    "cookies and cream",
    "cookie notice except on mobile",
    "Cookie-Hinweis",
    "cookie banner with decline",
    "Tell people about cookies that we bake",
    "cookie notice that disappears after 10 seconds",
    "FAQ about cookies",
    "never show the cookie notice",
    "bar with cookies",
]


@pytest.mark.parametrize("feature", REQUESTS)
def test_a_request_for_a_cookie_notice_is_recognised(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is COOKIE_NOTICE


@pytest.mark.parametrize("feature", NEAR_MISSES)
def test_a_near_miss_is_refused(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is None
