"""Which project a new task belongs to."""

from __future__ import annotations

from tasks.addresses import origin_of
from tasks.api.problems import Unprocessable
from tasks.models import Project

SHOWN = 20  # names in a message


def choose_project(name: str, target_url: str) -> Project:
    """Return the project named, else the one at this address, else a lone demo.

    `target_url` has been checked. Raises Unprocessable, whose text names the known projects.
    """
    if name:
        named = Project.objects.filter(name=name).first()
        if named is None:
            raise Unprocessable(f"There is no project “{name}”. {_known(_all())}")
        return named
    projects = _all()
    origin = origin_of(target_url)
    matching = [project for project in projects if project.target_origin == origin]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(project.name for project in matching[:SHOWN])
        raise Unprocessable(f"Several projects have their site at {origin}; name one: {names}.")
    if len(projects) == 1 and projects[0].is_demo:
        return projects[0]
    raise Unprocessable(f"No project has its site at {origin}. {_known(projects)}")


def _all() -> list[Project]:
    return list(Project.objects.order_by("name"))


def _known(projects: list[Project]) -> str:
    if not projects:
        return "There are none yet: add one with “manage.py project add”."
    shown = ", ".join(f"{project.name} ({project.target_origin})" for project in projects[:SHOWN])
    more = len(projects) - SHOWN
    rest = f" and {more} more" if more > 0 else ""
    return f"Known projects: {shown}{rest}. Name one as “project”, or correct target_url."
