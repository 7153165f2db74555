"""The house rules that a machine can hold: floors, one door to each outside thing, sizes, names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("tasks", "chimera_site", "chimera_daemon")
MAX_LINES = 300
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "service"}

# Floor -> the floors of tasks/ that it may import. Each floor may import itself.
GROUND = {"lifecycle", "outcome", "feed", "addresses", "commits", "disk"}
BELOW = {
    "lifecycle": set(),
    "addresses": set(),
    "commits": set(),
    "disk": set(),
    "outcome": {"lifecycle"},
    "feed": {"lifecycle"},
    "models": {"lifecycle", "outcome", "addresses", "commits"},
    "workspace": {"lifecycle", "outcome", "addresses", "commits"},
    "agents": {"workspace", *GROUND},
    "phases": {"agents", "workspace", *GROUND},
    "workflow": {"phases", "agents", "workspace", "models", *GROUND},
    "api": {"models", *GROUND},
    "dashboard": {"models", *GROUND},
    "admin": {"models", *GROUND},
    "checks": {"models", *GROUND},
    "apps": {"checks", "models", *GROUND},
    # Commands start the engine and check what they are given, so they may look further down.
    "management": {"workflow", "phases", "agents", "workspace", "models", *GROUND},
}
# What belongs to no floor and nobody imports.
OUTSIDE_FLOORS = {"migrations", "__init__"}


@dataclass(frozen=True)
class Door:
    """An outside thing, and the only places that may touch it (path prefixes)."""

    module: str
    places: tuple[str, ...]


DOORS = (
    Door(
        "django_q",
        ("tasks/workflow/", "tasks/management/commands/qcluster.py", "tasks/admin"),
    ),
    Door("playwright", ("tasks/workspace/browser.py", "tasks/workspace/proof_plugin.py")),
    Door("rest_framework", ("tasks/api/",)),
    Door("channels", ("tasks/feed.py", "tasks/dashboard/", "chimera_site/asgi.py")),
    Door("multiprocessing", ("tasks/workflow/",)),
    Door("inotify_simple", ("tasks/workflow/changes.py",)),
    Door("httpx2", ("chimera_daemon/client.py",)),
)
# Programs that run by themselves, most of them in a sandbox: no settings, no process.py there.
PROGRAMS_OF_THEIR_OWN = (
    "tasks/workspace/fetch.py",
    "tasks/workspace/room.py",
    "tasks/workspace/warden.py",
    "tasks/workspace/proof_plugin.py",
    "tasks/agents/playbook_runner.py",
    "tasks/agents/scripted_runner.py",
)
PROGRAM_STARTERS = (
    "tasks/workspace/process.py",
    "tasks/workspace/room.py",
    "tasks/workspace/warden.py",  # as a program of its own, like the room
    "tasks/workspace/leash.py",  # becomes another program, as a program of its own
    "chimera_daemon/cli.py",  # becomes manage.py daemon
)
GIT_CALLERS = ("tasks/workspace/git.py", "tasks/workspace/plumbing.py")
ENVIRONMENT_READERS = (
    "chimera_site/settings.py",
    "chimera_site/options.py",
    "chimera_daemon/",
    "tasks/management/commands/qcluster.py",  # django-q2 takes its cluster's name from there
    *PROGRAMS_OF_THEIR_OWN,
)
# These only name the settings module before Django is there.
ENTRY_POINTS = ("chimera_site/asgi.py", "chimera_site/wsgi.py", "chimera_site/__main__.py")


def sources(*folders: str) -> list[str]:
    """Return every Python file of these folders, relative to the checkout."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    names = [path.relative_to(ROOT).as_posix() for path in found]
    return sorted(name for name in names if "/migrations/" not in name)


def product() -> list[str]:
    """Return the files of the product; what is data for agents is not among them."""
    return [name for name in sources(*PRODUCT) if "/playbooks/" not in name]


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of every file of the product."""
    return {name: ast.parse((ROOT / name).read_text()) for name in product()}


def imports(name: str, tree: ast.Module) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it, as an absolute dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _from(name, node)


def _from(name: str, node: ast.ImportFrom) -> Iterator[str]:
    base = node.module or ""
    if node.level:
        package = name.removesuffix(".py").split("/")[: -node.level]
        base = ".".join([*package, base] if base else package)
    # `from tasks import models` imports tasks.models; a plain name does no harm in the list.
    yield from (f"{base}.{alias.name}" for alias in node.names)


def is_or_in(module: str, package: str) -> bool:
    """Say whether `module` is `package` or something in it."""
    return module == package or module.startswith(f"{package}.")


def floor_of(name: str) -> str | None:
    """Return the floor of a file or dotted name of tasks/; None outside of it."""
    parts = name.removesuffix(".py").replace("/", ".").split(".")
    return parts[1] if parts[0] == "tasks" and len(parts) > 1 else None


def test_every_part_of_tasks_has_a_floor() -> None:
    floors = {floor_of(name) for name in product()} - {None}
    assert floors - OUTSIDE_FLOORS - BELOW.keys() == set()


def test_imports_only_go_down(trees: dict[str, ast.Module]) -> None:
    wrong = [
        f"{name} imports {module}"
        for name, tree in trees.items()
        for module in imports(name, tree)
        if not goes_down(floor_of(name), floor_of(module))
    ]
    assert wrong == []


def goes_down(above: str | None, below: str | None) -> bool:
    """Say whether a file on floor `above` may import something on floor `below`."""
    if above is None or below is None or below not in BELOW:
        return True
    return above == below or below in BELOW.get(above, set())


def test_the_client_knows_neither_django_nor_the_server(trees: dict[str, ast.Module]) -> None:
    foreign = ("django", "tasks", "chimera_site", "rest_framework", "channels")
    wrong = [
        f"{name} imports {module}"
        for name, tree in trees.items()
        if name.startswith("chimera_daemon/")
        for module in imports(name, tree)
        if any(is_or_in(module, package) for package in foreign)
    ]
    assert wrong == []


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.module)
def test_an_outside_thing_has_one_door(door: Door, trees: dict[str, ast.Module]) -> None:
    wrong = [
        name
        for name, tree in trees.items()
        if any(is_or_in(module, door.module) for module in imports(name, tree))
        and not name.startswith(door.places)
    ]
    assert wrong == []


def test_django_qs_own_task_and_djangos_tasks_are_never_imported(
    trees: dict[str, ast.Module],
) -> None:
    confusing = {"django_q.models.Task", "django_q.models.Success", "django_q.models.Failure"}
    wrong = [
        f"{name} imports {module}"
        for name, tree in trees.items()
        for module in imports(name, tree)
        if module in confusing or is_or_in(module, "django.tasks")
    ]
    assert wrong == []


def test_only_the_git_modules_call_git(trees: dict[str, ast.Module]) -> None:
    wrong = [
        name
        for name, tree in trees.items()
        if name not in GIT_CALLERS and any(starts_with_git(node) for node in ast.walk(tree))
    ]
    assert wrong == []


def starts_with_git(node: ast.AST) -> bool:
    """Say whether a node is a list or tuple whose first element is the word git: an argv."""
    if not isinstance(node, ast.List | ast.Tuple) or not node.elts:
        return False
    first = node.elts[0]
    return isinstance(first, ast.Constant) and first.value in {"git", "/usr/bin/git"}


def test_only_process_py_starts_programs(trees: dict[str, ast.Module]) -> None:
    wrong = [
        f"{name}:{node.lineno} {ast.unparse(node.func)}"
        for name, tree in trees.items()
        if name not in PROGRAM_STARTERS
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and starts_a_program(ast.unparse(node.func))
    ]
    assert wrong == []


def starts_a_program(call: str) -> bool:
    """Say whether a call such as `subprocess.run` starts or becomes a program."""
    module, _, name = call.rpartition(".")
    return (
        module == "subprocess"
        or (module == "os" and name.startswith(("exec", "spawn", "posix_spawn", "system", "popen")))
        or name.startswith("create_subprocess")
    )


def test_subprocess_is_only_imported_under_its_own_name(trees: dict[str, ast.Module]) -> None:
    wrong = [
        name
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.ImportFrom) and node.module == "subprocess")
        or (
            isinstance(node, ast.Import)
            and any(alias.name == "subprocess" and alias.asname for alias in node.names)
        )
    ]
    assert wrong == []


def test_no_shell_ever_sees_a_command(trees: dict[str, ast.Module]) -> None:
    shells = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
    wrong = [
        f"{name}:{node.lineno}"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (ast.unparse(node.func) in shells or any(key.arg == "shell" for key in node.keywords))
    ]
    assert wrong == []


def test_only_the_settings_read_the_environment(trees: dict[str, ast.Module]) -> None:
    allowed = (*ENVIRONMENT_READERS, *ENTRY_POINTS)
    wrong = [
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, tree in trees.items()
        if not name.startswith(allowed)
        for node in ast.walk(tree)
        if reads_environment(node)
    ]
    assert wrong == []


def reads_environment(node: ast.AST) -> bool:
    """Say whether a node is os.environ, os.environb or os.getenv."""
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in {"environ", "environb", "getenv", "getenvb"}
    )


def test_entry_points_only_name_the_settings(trees: dict[str, ast.Module]) -> None:
    for name in ENTRY_POINTS:
        reads = [node for node in ast.walk(trees[name]) if reads_environment(node)]
        calls = [ast.unparse(node) for node in ast.walk(trees[name]) if isinstance(node, ast.Call)]
        settings = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'chimera_site.settings')"
        assert len(reads) == calls.count(settings) == 1


def test_no_file_is_named_after_nothing() -> None:
    everything = [*product(), *sources("scripts", "benchmarks", "tests")]
    assert [name for name in everything if BANNED_NAMES & set(parts(name))] == []


def parts(name: str) -> list[str]:
    """Return the folders and the stem of a path."""
    return name.removesuffix(".py").split("/")


def test_no_file_is_longer_than_a_sitting() -> None:
    lengths = {
        name: len((ROOT / name).read_text().splitlines()) for name in sources(*PRODUCT, "scripts")
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_the_floors_are_those_of_the_map() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    named = {word.strip("` ") for row in rows for word in row.split("|")[2].split("`")[1::2]}
    assert named == BELOW.keys() - {"apps"}
