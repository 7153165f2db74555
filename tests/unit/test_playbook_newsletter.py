"""A sign-up form for a newsletter is asked for in many words; sending one is something else."""

from __future__ import annotations

import pytest

from tasks.agents.playbooks import recognition

PLAYBOOKS = recognition.load_all()
[NEWSLETTER] = [entry for entry in PLAYBOOKS if entry.name == "newsletter"]

REQUESTS = [
    "Newsletter sign-up",
    "newsletter signup form",
    "Add a newsletter subscription form",
    "Users can subscribe to the newsletter",
    "Visitors should be able to sign up for our newsletter",
    "Let people join the mailing list",
    "A form to subscribe to our newsletter",
    "Sign up for newsletter",
    "Newsletter sign-up with e-mail validation",
    "newsletter form that validates the email address",
    "As a reader, I want to sign up for the newsletter with my e-mail address",
    "Mailing list sign-up box at the bottom of every page",
    "Newsletter signup form with validation and a success message",
    "Newsletter registration in the footer",
    "We'd like readers to register for our newsletter",
    "E-mail newsletter sign-up",
    "Let visitors leave their e-mail address for the newsletter",
    "Newsletter sign-up that shows an error for an invalid e-mail",
    "Allow visitors to subscribe to newsletters",
    "Please build a newsletter subscription form, and show a thank-you message!",
    "newsletter signup pls",
    "A newsletter form with email validation",
    "Give readers a way to subscribe to the newsletter",
    "As a reader I want to subscribe to the newsletter so that I get news",
    "“Subscribe to our newsletter” box",
]

NEAR_MISSES = [
    "newsletter archive",
    "Newsletter sign-up with Mailchimp",
    "Unsubscribe from the newsletter",
    "Send a newsletter every week",
    "Remove the newsletter form",
    "newsletter",
    "Newsletter sign-up with double opt-in",
    "Newsletter sign-up with a confirmation e-mail",
    "Newsletter sign-up form with name and email",
    "Users can sign up",
    "Sign up for an account",
    "Newsletter pop-up",
    "Newsletter sign-up for the German newsletter",
    "Newsletter editor",
    "Subscribe to comments",
    "RSS feed subscription",
    "Newsletter form and a contact form",
    "Newsletter sign-up with a captcha",
    "Don't show the newsletter form",
    "Export newsletter subscribers",
    "Newsletter sign-up without e-mail",
    "Newsletter sign-up that stores addresses in the database",
    "Fix the newsletter form",
    "Newsletter sign-up in the header",
    "Subscribe to the premium plan",
    "Newsletter sign-up with GDPR consent",
    "Newsletter form in a modal",
    "Let users sign up for the newsletter at checkout",
    "Newsletter sign-up sends a welcome mail",
    "Show newsletter messages",
    "FAQ about newsletters",
    "users can create a newsletter form",
    "newsletter sign-up except for children",
    "newsletter sign-up instead of cookies",
    "Newsletter-Anmeldung",
    "2 newsletters",
    "join the newsletter team",
    "newsletter sign-up with a discount code",
    "newsletter sign up after login",
    "newsletter sign-up with a thank-you e-mail from us",
    "weekly newsletter",
    "Write a newsletter",
    "search newsletter",
    "newsletter about cookies",
]


@pytest.mark.parametrize("feature", REQUESTS)
def test_a_request_for_a_sign_up_form_is_recognised(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is NEWSLETTER


@pytest.mark.parametrize("feature", NEAR_MISSES)
def test_a_near_miss_is_refused(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is None
