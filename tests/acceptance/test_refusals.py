"""Work that is not good enough is refused where it is done: by author, coder and reviewer.

Each task stands where a good one really stood before: see the fixture `journey`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.lifecycle import Phase
from tasks.models import Project, Task
from tests.acceptance import scripts
from tests.acceptance.conftest import carry_on

pytestmark = pytest.mark.django_db(transaction=True)
Work = Callable[..., Task]


def ended(task: Task) -> tuple[str, str]:
    return task.phase, task.stopped_in


def test_an_author_who_does_nothing_fails_in_generation(work_from: Work, play: Path) -> None:
    scripts.write(play, {"author/mode.txt": "nothing"})
    task = work_from(Phase.E2E_TEST_GENERATION)
    assert ended(task) == ("FAILED", "E2E_TEST_GENERATION")
    assert "No test was written" in task.reason


def test_a_test_that_passes_already_is_not_red(work_from: Work, play: Path) -> None:
    scripts.good_author(
        play,
        "def test_it(page, base_url):\n"
        "    page.goto(base_url + '/')\n"
        "    assert page.inner_text('h1') == 'Shop'\n",
    )
    task = work_from(Phase.E2E_TEST_GENERATION)
    assert ended(task) == ("FAILED", "RED_VERIFICATION")
    assert "passes before the change" in task.reason


@pytest.mark.parametrize(
    ("test", "stopped_in", "said"),
    [
        ("def test_it(page)\n    assert 1\n", "E2E_TEST_GENERATION", "not valid Python"),
        ("def test_it(page):\n    page.goto('/')\n", "E2E_TEST_GENERATION", "no assertion"),
        ("import nothing_such\nassert 1 == 1\n", "E2E_TEST_GENERATION", "nothing_such"),
        ("def helper():\n    assert 1 == 1\n", "E2E_TEST_GENERATION", "finds no test"),
        (
            "def test_it(page, base_url):\n    page.goto(base_url)\n    assert undefined == 1\n",
            "RED_VERIFICATION",
            "NameError",
        ),
        (
            "def test_it(page):\n    page.goto('http://127.0.0.1:8081/')\n    assert 1 == 2\n",
            "RED_VERIFICATION",
            "ERR_CONNECTION_REFUSED",
        ),
    ],
    ids=["syntax", "no assertion", "import", "no test", "undefined name", "dead site"],
)
def test_a_broken_test_is_not_red(
    work_from: Work, play: Path, test: str, stopped_in: str, said: str
) -> None:
    scripts.good_author(play, test)
    task = work_from(Phase.E2E_TEST_GENERATION)
    assert ended(task) == ("FAILED", stopped_in)
    assert said in task.reason


def test_an_author_may_write_nothing_but_the_test(work_from: Work, play: Path) -> None:
    scripts.write(play, {"author/files/index.html": "<h1>Shop</h1>", "author/files/x.py": "x = 1"})
    task = work_from(Phase.E2E_TEST_GENERATION)
    assert ended(task) == ("FAILED", "E2E_TEST_GENERATION")
    assert "index.html" in task.reason


def test_a_coder_who_does_nothing_fails_in_implementation(work_from: Work, play: Path) -> None:
    scripts.write(play, {"coder/mode.txt": "lie"})
    task = work_from(Phase.CODE_IMPLEMENTATION)
    assert ended(task) == ("FAILED", "CODE_IMPLEMENTATION")
    assert "Nothing was changed" in task.reason


@pytest.mark.parametrize("path", ["@test_path@", "conftest.py", "tests/e2e/conftest.py"])
def test_a_coder_who_edits_the_test_is_refused(work_from: Work, play: Path, path: str) -> None:
    scripts.write(play, {f"coder/files/{path}": "def test_it():\n    assert 1 == 1\n"})
    task = work_from(Phase.CODE_IMPLEMENTATION)
    assert ended(task) == ("FAILED", "CODE_IMPLEMENTATION")
    assert "may not be changed" in task.reason


def test_a_coder_who_breaks_an_existing_test_is_refused(work_from: Work, play: Path) -> None:
    page = scripts.PAGE.replace("<h1>Shop</h1>", "<h1>Store</h1>").format(banner=scripts.BANNER)
    scripts.write(play, {"coder/files/index.html": page})
    task = work_from(Phase.CODE_IMPLEMENTATION)
    assert ended(task) == ("FAILED", "CODE_IMPLEMENTATION")
    assert "test_the_shop_has_a_name passed before" in task.reason


def test_a_coder_who_deletes_an_existing_test_is_refused(work_from: Work, play: Path) -> None:
    scripts.write(play, {"coder/delete.txt": "tests/test_shop.py\n"})
    task = work_from(Phase.CODE_IMPLEMENTATION)
    assert ended(task) == ("FAILED", "CODE_IMPLEMENTATION")
    assert "ran before the change and not now" in task.reason


def test_the_guardian_finds_a_secret_and_an_injection(
    review: Callable[[dict[str, str]], Task],
) -> None:
    code = (
        'import os\n\nTOKEN = "AKIAABCDEFGHIJKLMNOP"\n\n\n'
        'def go(name):\n    os.system("ls " + name)\n'
    )
    task = review({"tool.py": code})
    assert ended(task) == ("FAILED", "GUARDIAN_REVIEW")
    run = task.phase_runs.get(phase="GUARDIAN_REVIEW")
    rules = {(finding["rule"], finding["file"], finding["line"]) for finding in run.findings}
    assert {("secret", "tool.py", 3), ("ruff:S605", "tool.py", 7)} <= rules
    assert task.deployment_url == ""


@pytest.fixture
def reviewed_shop(known_shop: Project, play: Path) -> Project:
    """Return the shop with a reviewer: the scripted agent of `play`."""
    known_shop.reviewer = f"scripted:{play}"
    known_shop.save()
    return known_shop


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ('Fine. {"verdict": "approve", "findings": []}', "completed", "passes at http"),
        (
            '{"verdict": "reject", "findings": [{"file": "index.html", "line": 3, '
            '"rule": "a11y", "message": "no landmark"}]}',
            "failed",
            "no landmark",
        ),
        ("Looks good to me!", "queued", "no verdict"),
        ('{"verdict": "maybe"}', "queued", "no verdict"),
        ('{"verdict": "approve", "findings": [{"message": "but"}]}', "failed", "but"),
    ],
)
def test_only_a_clear_approval_deploys(
    work_from: Work, reviewed_shop: Project, play: Path, answer: str, status: str, said: str
) -> None:
    scripts.write(play, {"reviewer/answer.txt": answer})
    task = work_from(Phase.GUARDIAN_REVIEW, max_retries=1 if status == "queued" else 0)
    assert (task.status, said in task.reason) == (status, True), task.reason
    assert (task.deployment_url != "") == (status == "completed")


def test_a_reviewer_who_keeps_talking_nonsense_fails_the_task(
    work_from: Work, reviewed_shop: Project, play: Path
) -> None:
    scripts.write(play, {"reviewer/answer.txt": "Hm."})
    task = work_from(Phase.GUARDIAN_REVIEW, max_retries=1)
    carry_on(task)
    assert ended(task) == ("FAILED", "GUARDIAN_REVIEW")
    assert task.deployment_url == ""
