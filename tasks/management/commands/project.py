"""Register the repositories that Chimera may work on."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from chimera_daemon.display import printable
from tasks import agents
from tasks.lifecycle import Verdict
from tasks.models import Project
from tasks.workflow.trial import try_project
from tasks.workspace.sandbox import SandboxError


class Command(BaseCommand):
    """`project add` tries a repository and registers it; `project list` shows them all."""

    help = "Register the repositories that Chimera may work on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subcommands."""
        commands = parser.add_subparsers(dest="verb", required=True)
        commands.add_parser("list", help="show the registered projects")
        add = commands.add_parser("add", help="try a repository, and register it if it works")
        add.add_argument("name", metavar="NAME", help="lower-case letters, digits, dashes")
        add.add_argument("--repository", required=True, help="path or URL, as for git clone")
        add.add_argument("--branch", default="main")
        add.add_argument("--target-url", required=True, help="where people use the site")
        add.add_argument("--install", default="", help="e.g. 'pip install -e .[test]'")
        add.add_argument("--test", default="", help="e.g. 'python -m pytest'")
        add.add_argument("--serve", required=True, help="e.g. 'python -m http.server {port}'")
        add.add_argument("--health-path", default="/", help="answers below 400 when the site is up")
        add.add_argument("--e2e-folder", default="tests/e2e")
        _add_deployment_arguments(add)
        add.add_argument("--coder", default="playbook", help="e.g. 'command:./coder {prompt_file}'")
        add.add_argument("--author", default="playbook")
        add.add_argument("--reviewer", default="", help="none by default")
        add.add_argument(
            "--max-open-tasks", type=int, default=0, help="that run at once; 0 = no limit"
        )
        add.add_argument("--agent-network", action="store_true", help="let agents use the network")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the verb."""
        if options["verb"] == "list":
            self._list()
        else:
            self._add(options)

    def _list(self) -> None:
        for project in Project.objects.all():
            self.stdout.write(f"{project.name}\t{project.target_url}\t{project.repository}")

    def _add(self, options: dict[str, Any]) -> None:
        project = _from_options(options)
        _refuse_invalid(project)
        self.stdout.write(f"Trying {project.repository} …")
        try:
            outcome = try_project(project, lambda text: self.stdout.write(f"  {_harmless(text)}"))
        except SandboxError as error:
            raise CommandError(str(error)) from error
        if outcome.verdict != Verdict.PASSED:
            raise CommandError(f"Not registered.\n{_harmless(outcome.reason)}")
        project.save()
        self.stdout.write(f"  {_harmless(outcome.reason)}")
        self.stdout.write(
            self.style.SUCCESS(f"Registered {project.name}.")
            + f" Requests for {project.target_origin} go to it."
        )


def _harmless(text: str) -> str:
    """Return what a repository's commands have said, without what steers a terminal."""
    return "\n".join(printable(line, 1000) for line in text.splitlines())


def _add_deployment_arguments(add: ArgumentParser) -> None:
    staging = add.add_argument_group("staging by a command of your own (docs/staging.md)")
    staging.add_argument("--deploy", default="", help="e.g. '/opt/deploy {tree}'")
    staging.add_argument("--rollback", default="", help="run when the test fails on staging")
    staging.add_argument(
        "--commit-check", default="", help="header:NAME, path:/PATH or command:COMMAND"
    )
    staging.add_argument(
        "--staging-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="where it may deploy to, e.g. https://staging.shop.example; may be repeated",
    )


def _from_options(options: dict[str, Any]) -> Project:
    repository = options["repository"]
    if Path(repository).expanduser().exists():
        repository = str(Path(repository).expanduser().resolve())
    return Project(
        name=options["name"],
        repository=repository,
        branch=options["branch"],
        target_url=options["target_url"],
        install_command=options["install"],
        test_command=options["test"],
        serve_command=options["serve"],
        health_path=options["health_path"],
        e2e_folder=options["e2e_folder"],
        deploy_command=options["deploy"],
        rollback_command=options["rollback"],
        commit_check=options["commit_check"],
        staging_origins=options["staging_origin"],
        author=options["author"],
        coder=options["coder"],
        reviewer=options["reviewer"],
        agent_network=options["agent_network"],
        max_open_tasks=options["max_open_tasks"],
    )


def _refuse_invalid(project: Project) -> None:
    """Raise CommandError, naming every value that does not fit."""
    wrong = []
    try:
        project.full_clean(exclude=["target_origin"])
    except ValidationError as error:
        wrong += [f"{name}: {' '.join(texts)}" for name, texts in error.message_dict.items()]
    for line in (project.install_command, project.test_command, project.serve_command):
        try:
            shlex.split(line)
        except ValueError as error:
            wrong.append(f"{line!r} is not a command: {error}")
    for name in filter(None, (project.author, project.coder, project.reviewer)):
        try:
            agents.find(name)
        except agents.AgentError as error:
            wrong.append(str(error))
    if wrong:
        raise CommandError("Not registered.\n" + "\n".join(wrong))
