"""The shop's unit tests ask Django's test client; no server, no browser, no database."""

import os
import sys
from pathlib import Path

os.environ["DJANGO_SETTINGS_MODULE"] = "bookshop.settings"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import django
import pytest
from django.test import Client
from django.test.utils import setup_test_environment, teardown_test_environment

django.setup()


@pytest.fixture(scope="session", autouse=True)
def _instrumented():
    setup_test_environment()
    yield
    teardown_test_environment()


@pytest.fixture
def client():
    """Return a client that speaks to the shop as a browser on this machine does."""
    return Client(SERVER_NAME="localhost")
