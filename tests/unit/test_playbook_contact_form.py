"""A contact form is asked for in many words; one that does more is something else."""

from __future__ import annotations

import pytest

from tasks.agents.playbooks import recognition

PLAYBOOKS = recognition.load_all()
[CONTACT_FORM] = [entry for entry in PLAYBOOKS if entry.name == "contact_form"]

REQUESTS = [
    "Contact form",
    "Add a contact form, please",
    "contact-form with validation",
    "A contact us form",
    "A form to contact us",
    "Users can contact us through a form",
    "Contact form with name, e-mail and message",
    "Contact form that asks for name, email and message, with validation",
    "Visitors should be able to send us a message via a form",
    "A simple form to get in touch",
    "As a customer, I want a contact form to send a message",
    "Users can fill in and submit a contact form",
    "Contact form with error messages next to the fields",
    "contact form where people can write to us",
    "Give people a form to write to us",
    "Let customers reach us using a form",
    "contact form with fields for name, email, and message",
    "Contact form with validation and a success message",
    "Contact form that shows clear error messages",
    "contact form at the bottom of every page",
    'Could we have a "contact us" form that checks the fields?',
    "We need a form to leave us a message",
    "Contact form with required fields and a thank-you message",
    "contact form pls",
    "A contact form that validates name, email and message",
    "As a visitor I want to contact you through a form so that I can ask you something",
    "contact‑form (name, e‑mail, message)",
    "Get in touch form",
]

NEAR_MISSES = [
    "contact form with file upload",
    "Contact page",
    "Contact details in the footer",
    "Remove the contact form",
    "Contact form that e-mails us",
    "Email the contact form",
    "Contact form with captcha",
    "Contact form with a phone number",
    "Contact form with a subject",
    "Send contact forms to Slack",
    "Save the contact form to the database",
    "No contact form",
    "Contact lens shop",
    "Contact form without validation",
    "Contact form for the wholesale team",
    "Feedback form",
    "Contact form and newsletter sign-up",
    "User can login through a form",
    "Contact form with spam protection",
    "Fix the contact form",
    "Contact form in a popup",
    "Import contacts",
    "A form",
    "Contact form with live chat",
    "Multi-step contact form",
    "contact form 📎",
    "Order form with name, email and message",
    "Contact form with an address field",
    "Contact form on the contact page",
    "Contact form submissions page",
    "Contact form error",
    "When users submit the contact form, send a message",
    "Send us a message when the site is down",
    "let users build a contact form",
    "Contact form for users to contact people",
    "contact form with two pages",
    "Contact form instead of an e-mail address",
    "Contact form except for the name",
    "Kontaktformular",
    "form to send us money",
    "contact sports",
    "A form to contact my doctor",
    "contact form as PDF",
    "Users can see the messages of the contact form",
    "contact form on all pages except the start page",
    "Contact form with a fax number",
    "contact form template",
    "fill in the contact form for me",
    "submit the contact form for users",
]


@pytest.mark.parametrize("feature", REQUESTS)
def test_a_request_for_a_contact_form_is_recognised(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is CONTACT_FORM


@pytest.mark.parametrize("feature", NEAR_MISSES)
def test_a_near_miss_is_refused(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is None
