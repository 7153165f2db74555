"""The playbook agent on plain HTML files that nobody made for it: the whole way, or refused."""

from __future__ import annotations

import pytest
from pytest_django import DjangoDbBlocker

from tasks.agents.playbooks import recognition
from tasks.lifecycle import ROUTE
from tests.acceptance import scripts, sites
from tests.acceptance.journeys import End, walk_all

pytestmark = pytest.mark.django_db(transaction=True)

FEATURES = (
    "could we have a night theme?",
    "Tell visitors that we use cookies",
    "Let readers jump to the top",
    "Newsletter sign-up",
    "Users can contact us through a form",
)
NOT_COVERED = "User can login with Google OAuth"


@pytest.fixture(scope="module")
def ends(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, End]:
    """Return how each request for the ferry's site ended."""
    with django_db_blocker.unblock():
        found = walk_all(
            sites.ferry(),
            (*FEATURES, NOT_COVERED),
            tmp_path_factory.mktemp("ferry"),
            name="ferry",
            target_url="https://ferry.example/",
            serve_command=scripts.SERVE,
        )
    return {end.task.feature: end for end in found}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_playbook_is_proved_red_and_green_at_the_first_try(
    ends: dict[str, End], feature: str
) -> None:
    task = ends[feature].task
    assert (task.status, task.validation_status) == ("completed", "passed"), task.reason
    assert ends[feature].phases == tuple(ROUTE)


def test_what_no_playbook_covers_fails_in_the_second_phase_and_says_what_to_do(
    ends: dict[str, End],
) -> None:
    task = ends[NOT_COVERED].task
    assert (task.phase, task.stopped_in) == ("FAILED", "E2E_TEST_GENERATION")
    assert ends[NOT_COVERED].phases == tuple(ROUTE[:2])
    assert "nothing covers “google”, “oauth”" in task.reason
    for playbook in recognition.load_all():
        assert playbook.title in task.reason
    assert '--coder "command:PROGRAM {prompt_file}"' in task.reason
    assert (task.test_sha, task.code_sha, task.deployment_url) == ("", "", "")
