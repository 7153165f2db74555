"""A repository or a site that does not work fails its task in the first phase, and says how."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.models import Project, Task

pytestmark = pytest.mark.django_db(transaction=True)
Work = Callable[..., Task]


def ended(task: Task) -> tuple[str, str]:
    return task.phase, task.stopped_in


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"repository": "/nowhere/at/all"}, "Check the project's repository"),
        ({"branch": "develop"}, "there is: main"),
        ({"serve_command": "python -c 'print(7*6); raise SystemExit(4)'"}, "ended with code 4"),
        ({"serve_command": "no-such-program {port}"}, "no-such-program"),
        ({"health_path": "/health"}, "/health answered 404"),
        ({"install_command": "python -c 'raise SystemExit(5)'"}, "ended with code 5"),
    ],
    ids=["no repository", "no branch", "site ends", "no program", "not healthy", "install"],
)
def test_a_broken_base_fails_at_once_and_says_how(
    work: Work, shop: Project, change: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.workspace.site.HEALTH_TIMEOUT_S", 2.0)
    Project.objects.filter(pk=shop.pk).update(**change)
    shop.refresh_from_db()
    task = work(max_retries=3)
    assert ended(task) == ("FAILED", "WORKSPACE_PREPARATION")
    assert said in task.reason


def test_a_folder_that_is_not_git_fails_with_gits_words(
    work: Work, shop: Project, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    shop.repository = str(tmp_path / "plain")
    shop.save()
    task = work()
    assert ended(task) == ("FAILED", "WORKSPACE_PREPARATION")
    assert "repository" in task.reason


def test_a_repository_without_a_commit_says_so(work: Work, shop: Project, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "empty")], check=True)
    shop.repository = str(tmp_path / "empty")
    shop.save()
    assert "no commit" in work().reason
