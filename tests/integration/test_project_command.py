"""`manage.py project add`: what a person sees of a repository that nobody here wrote."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tasks.lifecycle import Verdict
from tasks.management.commands import project
from tasks.models import Project
from tasks.outcome import Outcome

HOSTILE = "\x1b[2J\x1b]0;title\x07installed\r\nthe rest"
WORDS = ["shop", "--repository=/nowhere", "--target-url=https://shop.example/", "--serve=x {port}"]


@pytest.mark.django_db
@pytest.mark.parametrize("verdict", [Verdict.PASSED, Verdict.REJECTED])
def test_nothing_that_a_repository_says_steers_the_terminal(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    def trial(_: Project, echo: Any) -> Outcome:
        echo(HOSTILE)
        return Outcome(verdict, HOSTILE)

    monkeypatch.setattr(project, "try_project", trial)
    printed = io.StringIO()
    try:
        call_command("project", "add", *WORDS, stdout=printed, no_color=True)
    except CommandError as error:
        printed.write(str(error))
    said = printed.getvalue()
    assert "installed\nthe rest" in said
    assert not {letter for letter in said if not letter.isprintable()} - {"\n"}
    assert Project.objects.exists() is (verdict == Verdict.PASSED)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--deploy=/opt/deploy"], "staging_origins: Name the origins"),
        (["--deploy=/opt/deploy"], "commit_check: A deployment must be told from an older one"),
        (["--staging-origin=https://a.example"], "This is of use only with a deploy command"),
        (["--deploy=./deploy {tree}"], "deploy_command: Name the program by its absolute path"),
        (["--deploy=/x", "--staging-origin=a.example/b"], "'a.example/b' is not an origin"),
    ],
)
def test_a_deployment_that_does_not_fit_is_refused_before_anything_is_tried(
    more: list[str], said: str
) -> None:
    with pytest.raises(CommandError, match="Not registered") as caught:
        call_command("project", "add", *WORDS, *more, stdout=io.StringIO())
    assert said in str(caught.value)
