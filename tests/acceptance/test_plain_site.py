"""The playbook agent on plain HTML files that nobody made for it: the whole way, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.agents.playbooks import recognition
from tasks.lifecycle import ROUTE
from tasks.models import Project, Task
from tests.acceptance import journeys, scripts, sites
from tests.acceptance.conftest import submit_and_work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the repository of the ferry's site."""
    return scripts.make_repository(tmp_path_factory.mktemp("ferry") / "ferry", sites.ferry())


@pytest.fixture
def work(repository: Path) -> Iterator[Callable[[str], Task]]:
    """Return a function that submits a request for the ferry's site and works on it."""
    ferry = Project.objects.create(
        name="ferry",
        repository=str(repository),
        target_url="https://ferry.example/",
        serve_command=scripts.SERVE,
    )
    yield lambda feature: submit_and_work(ferry, feature, ferry.target_url)
    journeys.close_shops()


@pytest.mark.parametrize(
    "feature",
    [
        "could we have a night theme?",
        "Tell visitors that we use cookies",
        "Let readers jump to the top",
        "Newsletter sign-up",
        "Users can contact us through a form",
    ],
)
def test_a_playbook_is_proved_red_and_green_at_the_first_try(
    work: Callable[[str], Task], feature: str
) -> None:
    task = work(feature)
    assert (task.status, task.validation_status) == ("completed", "passed"), task.reason
    assert [run.phase for run in task.phase_runs.all()] == list(ROUTE)


def test_what_no_playbook_covers_fails_in_the_second_phase_and_says_what_to_do(
    work: Callable[[str], Task],
) -> None:
    task = work("User can login with Google OAuth")
    assert (task.phase, task.stopped_in) == ("FAILED", "E2E_TEST_GENERATION")
    assert [run.phase for run in task.phase_runs.all()] == list(ROUTE[:2])
    assert "nothing covers “google”, “oauth”" in task.reason
    for playbook in recognition.load_all():
        assert playbook.title in task.reason
    assert '--coder "command:PROGRAM {prompt_file}"' in task.reason
    assert (task.test_sha, task.code_sha, task.deployment_url) == ("", "", "")
