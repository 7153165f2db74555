"""A repository that nobody here wrote: the tutorial application in Flask's source distribution."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from tasks.models import Project, Task
from tests.acceptance import scripts
from tests.acceptance.conftest import carry_on
from tests.acceptance.journeys import close_shops

pytestmark = pytest.mark.django_db(transaction=True)

FLASK = "flask==3.1.3"
SERVE = 'sh -c "flask --app flaskr init-db && exec flask --app flaskr run --port {port}"'

AGENT = '''\
"""A coding agent of few words: it reads its brief from a file and does what it always does."""

import json
import pathlib
import sys

brief = json.loads(pathlib.Path(sys.argv[1]).read_text())
if brief["role"] == "author":
    path = pathlib.Path(brief["test_path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "from playwright.sync_api import expect\\n\\n\\n"
        "def test_visitors_are_told_what_flaskr_is(page, base_url):\\n"
        "    page.goto(base_url + \\"" + brief["start_path"] + "\\")\\n"
        "    expect(page.get_by_text('A blog for everybody')).to_be_visible(timeout=2000)\\n"
    )
else:
    base = pathlib.Path("flaskr/templates/base.html")
    text = base.read_text()
    base.write_text(text.replace("</nav>", "</nav>\\n<p>A blog for everybody</p>", 1))
print("Done, trust me.")
'''


@pytest.fixture(scope="module")
def flaskr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tutorial as a Git repository, taken from the package index."""
    folder = tmp_path_factory.mktemp("flask")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "flask", FLASK],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=300,
    )
    (archive,) = folder.glob("flask-*.tar.gz")
    files: dict[str, str] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, name = member.name.partition("/examples/tutorial/")
            if name and member.isfile():
                source = tar.extractfile(member)
                assert source is not None
                files[name] = io.TextIOWrapper(source, encoding="utf-8").read()
    return scripts.make_repository(folder / "flaskr", files)


def add(name: str, repository: Path, agent: Path, **changes: str) -> str:
    """Run `manage.py project add` as a person would, and return what it printed."""
    command = f"command:{shlex.join([sys.executable, str(agent)])} {{brief_file}}"
    options = {
        "--repository": str(repository),
        "--target-url": "https://blog.example/",
        "--install": "pip install -q -e .[test]",
        "--test": "python -m pytest -q",
        "--serve": SERVE,
        "--coder": command,
        "--author": command,
        **changes,
    }
    printed = io.StringIO()
    words = [f"{option}={value}" for option, value in options.items()]
    call_command("project", "add", name, *words, stdout=printed)
    return printed.getvalue()


def test_flasks_tutorial_gets_a_feature(flaskr: Path, tmp_path: Path) -> None:
    agent = tmp_path / "agent.py"
    agent.write_text(AGENT)
    said = add("flaskr", flaskr, agent)
    assert "Registered flaskr" in said
    assert "of its own tests ran, 0 of them fail already" in said

    body = {"feature": "Tell visitors what Flaskr is", "target_url": "https://blog.example/"}
    answer = Client(HTTP_HOST="localhost").post(
        "/api/tasks", json.dumps(body), content_type="application/json"
    )
    assert answer.status_code == 201, answer.content
    assert answer.json()["project"] == "flaskr"
    task = Task.objects.get(task_id=answer.json()["task_id"])
    try:
        carry_on(task)
        assert task.status == "completed", task.reason
        port = urlsplit(task.deployment_url).port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
            assert b"A blog for everybody" in page.read()
    finally:
        close_shops()
    assert task.checkpoint.baseline is not None
    assert len(task.checkpoint.baseline.ran) > 20


def test_installing_leaves_chimeras_own_environment_alone(flaskr: Path) -> None:
    found = subprocess.run([sys.executable, "-c", "import flask"], capture_output=True, check=False)
    assert found.returncode != 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--branch": "develop"}, "there is: main"),
        ({"--repository": "/nowhere"}, "repository"),
        ({"--serve": "python -c 'raise SystemExit(9)'", "--install": ""}, "ended with code 9"),
        ({"--coder": "wizard"}, "There is no agent 'wizard'"),
        ({"--serve": "python 'unclosed"}, "is not a command"),
        ({"--target-url": "ftp://blog.example"}, "http"),
    ],
)
def test_a_project_that_does_not_work_is_not_registered(
    flaskr: Path, tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    agent = tmp_path / "agent.py"
    agent.write_text(AGENT)
    with pytest.raises(CommandError, match="Not registered") as caught:
        add("broken", flaskr, agent, **{"--test": "", "--install": "", **changes})
    assert said in str(caught.value)
    assert not Project.objects.filter(name="broken").exists()
