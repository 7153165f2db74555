"""The first start: an empty home becomes a working one, once, whoever comes first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tasks.models import Project
from tasks.workflow import first_start
from tasks.workspace import git

START = """
import json, django
django.setup()
from tasks.workflow import first_start
first_start.prepare()
from tasks.models import Project
print(json.dumps(list(Project.objects.values("name", "is_demo", "repository"))))
"""


def start(home: Path, **environ: str) -> subprocess.Popen[str]:
    """Start a process that prepares `home` and prints the projects."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHIMERA_")}
    environment = kept | {
        "CHIMERA_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
    }
    return subprocess.Popen(
        [sys.executable, "-c", START],
        env=environment | environ,
        cwd=settings.BASE_DIR,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def projects(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    found: list[dict[str, object]] = json.loads(out)
    return found


def test_two_processes_may_start_at_once_on_an_empty_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    racers = [start(home) for _ in range(2)]
    demo = {"name": "demo", "is_demo": True, "repository": str(home / "demo.git")}
    assert [projects(racer) for racer in racers] == [[demo], [demo]]
    history = git.Repository.open(home / "demo.git").log(_main(home / "demo.git"))
    assert [commit.subject for commit in history] == ["Open the bookshop"]


def test_the_demo_can_be_turned_off(tmp_path: Path) -> None:
    assert projects(start(tmp_path, CHIMERA_DEMO="0")) == []


def _main(repository: Path) -> str:
    sha = git.Repository.open(repository).ref("refs/heads/main")
    assert sha is not None
    return sha


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder that stands for demo/."""
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "page.html").write_text("one")
    return folder


def test_a_changed_demo_gets_a_commit_and_an_unchanged_one_none(
    db: None, shop: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "demo.git"
    first_start.register_demo(shop, repository)
    before = _main(repository)
    first_start.register_demo(shop, repository)
    assert _main(repository) == before
    (shop / "page.html").write_text("two")
    first_start.register_demo(shop, repository)
    assert git.Repository.open(repository).read(_main(repository), "page.html") == b"two"


def test_what_the_owner_changed_stays(db: None, shop: Path, tmp_path: Path) -> None:
    first_start.register_demo(shop, tmp_path / "old.git")
    Project.objects.filter(name="demo").update(coder="command:./mine {prompt_file}")
    first_start.register_demo(shop, tmp_path / "new.git")
    demo = Project.objects.get(name="demo")
    assert (demo.coder, demo.repository) == (
        "command:./mine {prompt_file}",
        str(tmp_path / "new.git"),
    )


def test_a_project_of_ones_own_called_demo_is_left_alone(
    project: Project, shop: Path, tmp_path: Path
) -> None:
    Project.objects.filter(pk=project.pk).update(name="demo")
    first_start.register_demo(shop, tmp_path / "demo.git")
    assert Project.objects.get(name="demo").is_demo is False
    assert not (tmp_path / "demo.git").exists()


def test_an_installation_without_the_folder_has_no_demo(db: None, tmp_path: Path) -> None:
    first_start.register_demo(tmp_path / "absent", tmp_path / "demo.git")
    assert not Project.objects.exists()


def test_a_folder_that_cannot_be_kept_is_said(
    db: None, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> str:
        raise git.GitError("no space left")

    monkeypatch.setattr(git, "create_from_folder", refuse)
    with pytest.raises(first_start.FirstStartError, match="no space left"):
        first_start.register_demo(shop, tmp_path / "demo.git")


def test_a_shared_database_is_not_migrated_behind_its_operators_back(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = [("a migration", False)]
    monkeypatch.setattr(first_start.MigrationExecutor, "migration_plan", lambda *args: plan)
    monkeypatch.setattr(first_start.connection, "vendor", "postgresql")
    with pytest.raises(first_start.FirstStartError, match=r"lacks 1 migrations\..*migrate"):
        first_start.bring_database_up()
