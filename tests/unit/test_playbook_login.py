"""Which requests are for the login, which only sound like it, and which sites can have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.agents import playbook_runner
from tasks.agents.playbooks import recognition
from tasks.agents.playbooks.login import program

PLAYBOOKS = recognition.load_all()
SETTINGS = 'ROOT_URLCONF = "shop.urls"\nMIDDLEWARE = [\n    "a.B",\n]\nUSE_TZ = True\n'
SITE = {"web/shop/settings.py": SETTINGS, "web/shop/urls.py": ""}

MEANT = [
    "User login",
    "User can login",
    "Users can log in and log out",
    "User login and logout with an error for a wrong password",
    "Add login",
    "A simple login form, please",
    "As a user I want to be able to log in with a username and password",
    "Let users sign in and out",
    "Could we have a login/logout feature?",
    "Customers should be able to sign in; show an error message if the password is wrong",
    "Add a login form in the header",
    "login and logout",
    "I want to log in",
    "As a visitor, I want to sign in so that I can sign out again",
    "Please make login for users",
    "Log in / log out",
    "User sign-in",
    "login for our customers",
]

NEAR_MISSES = [
    "User can login with Google OAuth",
    "login with SAML",
    "Login page",
    "Remove the login",
    "User login with two-factor authentication",
    "Users must log in to use the site",
    "Users must login to use the site",
    "Login with email and a magic link",
    "Admin login",
    "User login only for members",
    "User login and registration",
    "User login with forgotten password",
    "Log in the changes",
    "Login attempts report",
    "Sign up",
    "User can login without a password",
    "User login with remember me",
    "Log user actions",
    "Single sign on",
    "User login via LDAP",
    "User login and dark mode",
    "Logout after ten minutes",
    "",
    "User login with Google",
    "login with GitHub",
    "Login instead of a password",
    "User login without logout",
    "Users have to log in",
    "Users log in once",
    "People can sign in the guestbook",
    "Log users in automatically",
    "Users can log in as admin",
    "3 login attempts",
    "Connexion des utilisateurs",
    "Users cannot log in",
    "Nobody can login",
    "login, but not for admins",
    "users should log in to see the prices",
    "Users can create a login",
]


@pytest.mark.parametrize("feature", MEANT)
def test_a_request_for_a_login_is_recognised(feature):
    found = recognition.recognise(feature, PLAYBOOKS)
    assert found is not None
    assert found.name == "login"


@pytest.mark.parametrize("feature", NEAR_MISSES)
def test_a_near_miss_is_refused(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is None


def test_a_django_site_gets_a_module_and_a_line_in_its_settings():
    changed = program.change(SITE)
    assert changed.keys() == {"web/shop/settings.py", "web/shop/site_login.py"}
    line = '    "shop.site_login.LoginMiddleware",\n'
    assert changed["web/shop/settings.py"] == SETTINGS.replace("]\n", f"{line}]\n")
    compile(changed["web/shop/site_login.py"], "site_login.py", "exec")


def test_a_second_try_changes_nothing_more():
    changed = program.change(SITE)
    assert program.change({**SITE, **changed}) == changed


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "server"),
        ({"app.py": "import flask\n"}, "server"),
        ({**SITE, "web/shop/site_login.py": ""}, "there already"),
        (
            {**SITE, "web/shop/settings.py": SETTINGS + 'INSTALLED_APPS = ["django.contrib.auth"]'},
            "accounts already",
        ),
        ({**SITE, "web/shop/settings.py": 'ROOT_URLCONF = "shop.urls"\n'}, "MIDDLEWARE"),
        ({"web/shop/settings.py": SETTINGS}, "ROOT_URLCONF"),
    ],
)
def test_a_site_that_cannot_have_it_is_refused_with_the_reason(files, reason):
    with pytest.raises(program.UnfitError, match=reason):
        program.change(files)


def test_pages_without_a_server_are_left_as_they_are(tmp_path: Path):
    page = tmp_path / "index.html"
    page.write_text("<html><head></head><body><nav></nav></body></html>")
    [login] = [entry for entry in PLAYBOOKS if entry.name == "login"]
    with pytest.raises(playbook_runner.NotApplicableError, match="server"):
        playbook_runner.change_site(tmp_path, login, {"start_path": "/", "findings": []})
    assert "login" not in page.read_text()


def test_the_login_says_on_the_page_that_its_account_is_an_example():
    module = Path(program.__file__).with_name("site_login.py.txt").read_text()
    assert 'HINT = "Example account, which unlocks nothing' in module
