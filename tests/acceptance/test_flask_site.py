"""The playbook agent on a Flask application that nobody made for it: the whole way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.lifecycle import ROUTE
from tasks.models import Project, Task
from tests.acceptance import journeys, scripts, sites
from tests.acceptance.conftest import submit_and_work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the repository of the allotments' site."""
    folder = tmp_path_factory.mktemp("allotment") / "allotment"
    return scripts.make_repository(folder, sites.ALLOTMENT)


@pytest.fixture
def work(repository: Path) -> Iterator[Callable[[str], Task]]:
    """Return a function that submits a request for the allotments' site and works on it."""
    allotment = Project.objects.create(
        name="allotment",
        repository=str(repository),
        target_url="https://allotment.example/",
        install_command="pip install -q -r requirements.txt",
        test_command="python -m pytest -q checks",
        serve_command="flask --app allotment run --port {port}",
    )
    yield lambda feature: submit_and_work(allotment, feature, allotment.target_url)
    journeys.close_shops()


@pytest.mark.parametrize(
    "feature",
    [
        "Dark mode toggle",
        "Add a search box",
        "Could we have frequently asked questions on the front page?",
        "A dismissible cookie banner on every page",
        "Contact form with validation",
    ],
)
def test_a_playbook_is_proved_red_and_green_at_the_first_try(
    work: Callable[[str], Task], feature: str
) -> None:
    task = work(feature)
    assert (task.status, task.validation_status) == ("completed", "passed"), task.reason
    assert [run.phase for run in task.phase_runs.all()] == list(ROUTE)
    assert task.checkpoint.baseline is not None
    assert len(task.checkpoint.baseline.ran) == 6  # its own tests, which the change didn't break
