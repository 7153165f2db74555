"""The playbook agent on a Flask application that nobody made for it: the whole way."""

from __future__ import annotations

import pytest
from pytest_django import DjangoDbBlocker

from tasks.lifecycle import ROUTE
from tests.acceptance import sites
from tests.acceptance.journeys import End, walk_all

pytestmark = pytest.mark.django_db(transaction=True)

FEATURES = (
    "Dark mode toggle",
    "Add a search box",
    "Could we have frequently asked questions on the front page?",
    "A dismissible cookie banner on every page",
    "Contact form with validation",
)


@pytest.fixture(scope="module")
def ends(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, End]:
    """Return how each request for the allotments' site ended."""
    with django_db_blocker.unblock():
        found = walk_all(
            sites.ALLOTMENT,
            FEATURES,
            tmp_path_factory.mktemp("allotment"),
            name="allotment",
            target_url="https://allotment.example/",
            install_command="pip install -q -r requirements.txt",
            test_command="python -m pytest -q checks",
            serve_command="flask --app allotment run --port {port}",
        )
    return {end.task.feature: end for end in found}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_playbook_is_proved_red_and_green_at_the_first_try(
    ends: dict[str, End], feature: str
) -> None:
    task = ends[feature].task
    assert (task.status, task.validation_status) == ("completed", "passed"), task.reason
    assert ends[feature].phases == tuple(ROUTE)
    assert task.checkpoint.baseline is not None
    assert len(task.checkpoint.baseline.ran) == 6  # its own tests, which the change didn't break
