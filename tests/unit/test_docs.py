"""The pages tell of what is there: options, files, links and commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimera_site import options
from tasks.lifecycle import TIME_LIMITS_S

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "docs" / "configuration.md"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("**/*.md")])
OPTION = re.compile(r"\bCHIMERA_[A-Z_]*[A-Z]\b")
# Read before there are options (the file they come from), or by the client alone.
NO_OPTIONS = {"CHIMERA_CONFIG", "CHIMERA_URL", "CHIMERA_TEST_DATABASE", "CHIMERA_TEST_OUTAGE_S"}
# What a project's own deploy command is told: see docs/staging.md.
TOLD_TO_COMMANDS = {
    *("CHIMERA_TASK_ID", "CHIMERA_FENCE", "CHIMERA_PROJECT", "CHIMERA_BRANCH", "CHIMERA_COMMIT"),
    *("CHIMERA_BASE_COMMIT", "CHIMERA_TREE", "CHIMERA_STAGING_URL", "CHIMERA_URL_FILE"),
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def known_options() -> dict[str, tuple[str, ...]]:
    """Return each option that `load` reads, with the numbers or words that bound it."""
    tree = ast.parse(Path(options.__file__).read_text())
    load = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "load")
    found = {}
    for call in ast.walk(load):
        is_pick = isinstance(call, ast.Call) and ast.unparse(call.func).startswith("pick.")
        if is_pick and isinstance(call.args[0], ast.Constant):
            name, _default, *bounds = call.args
            found[name.value] = tuple(bound for value in bounds for bound in words_of(value))
    return found


def words_of(node: ast.expr) -> list[str]:
    """Return a constant, the members of a list, or those of a list that has a name."""
    if isinstance(node, ast.Name):
        return list(getattr(options, node.id))
    value = ast.literal_eval(node)
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def rows(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the tables below a heading, without the tables' own headings."""
    section = page.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    """Return what stands between single backticks, outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", without_fences(text))


def test_every_option_has_its_row_and_each_row_is_an_option() -> None:
    named = [row[0].strip("`") for row in rows(CONFIGURATION, "Options")]
    assert sorted(named) == sorted(known_options())


def test_the_row_of_an_option_tells_its_bounds() -> None:
    told = {row[0].strip("`"): row[2] for row in rows(CONFIGURATION, "Options")}
    missing = {
        name: bound
        for name, bounds in known_options().items()
        for bound in bounds
        if not re.search(rf"(?<![\w.]){re.escape(bound)}(?![\w.])", told[name])
    }
    assert missing == {}


def test_the_row_of_an_option_tells_its_default() -> None:
    found = options.load({"CHIMERA_HOME": "/h"}, None)
    told = {row[0].strip("`"): row[1].strip("`") for row in rows(CONFIGURATION, "Options")}
    for name, value in (
        ("CHIMERA_LOG_LEVEL", found.log_level),
        ("CHIMERA_LOG_FORMAT", found.log_format),
        ("CHIMERA_API_HOST", found.api_host),
        ("CHIMERA_API_PORT", found.api_port),
        ("CHIMERA_MAX_WORKERS", found.max_workers),
        ("CHIMERA_POLL_INTERVAL", found.poll_interval_s),
        ("CHIMERA_MAX_RETRIES", found.max_retries),
        ("CHIMERA_LEASE_SECONDS", f"{found.lease_s:g}"),
        ("CHIMERA_PRIORITY_AGING", found.priority_aging_s),
        ("CHIMERA_SANDBOX", found.sandbox),
        ("CHIMERA_STAGING_DOMAIN", found.staging_domain),
        ("CHIMERA_MAX_DEPLOYMENTS", found.max_deployments),
        ("CHIMERA_STAGING_HOURS", found.staging_hours),
        ("CHIMERA_KEEP_DAYS", found.keep_days),
        ("CHIMERA_KEEP_GB", f"{found.keep_gb:g}"),
        ("CHIMERA_DEMO", int(found.demo)),
        ("CHIMERA_AUTH", found.auth),
    ):
        assert told[name] == str(value), name


def test_the_keys_of_the_file_are_those_that_are_read() -> None:
    told = {key.strip("`"): name.strip("`") for key, name in rows(CONFIGURATION, "The file")}
    assert told == options.FILE_KEYS


def test_what_install_commands_get_is_told_in_full() -> None:
    page = CONFIGURATION.read_text()
    upper = {name for name in options.NETWORK_NAMES if name.isupper()}
    assert {name for name in upper if f"`{name}`" not in page} == set()


def test_the_time_limits_are_those_of_the_route() -> None:
    told = {name.strip("`"): int(s) for name, s in rows(CONFIGURATION, "What belongs to a project")}
    assert told == {phase.value: seconds for phase, seconds in TIME_LIMITS_S.items()}


@each_page
def test_no_page_names_an_option_that_there_is_not(page: Path) -> None:
    allowed = {*known_options(), *NO_OPTIONS, *TOLD_TO_COMMANDS}
    assert set(OPTION.findall(page.read_text())) - allowed == set()


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links and pictures that lie in this repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_fences(page.read_text())):
        if not re.match(r"[a-z]+:", target):
            yield target


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings as they stand in links."""
    titles = re.findall(r"^#+ (.+)$", without_fences(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop().resolve()
        seen.add(page)
        found = [(page.parent / target.partition("#")[0]).resolve() for target in links(page)]
        left += [path for path in found if path.suffix == ".md" and path not in seen]
    assert {page.name for page in PAGES if page.resolve() not in seen} == set()


@each_page
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    words = {word.strip('"(),') for span in spans(page.read_text()) for word in span.split()}
    paths = {word for word in words if re.fullmatch(r"[\w-]+(/[\w.-]+)+/?", word)}
    # tests/e2e is where Chimera puts a test into a project, not a folder of this repository.
    ours = {path for path in paths if path.split("/")[0] in folders}
    ours = {path for path in ours if not path.startswith("tests/e2e")}
    assert {path for path in ours if not (ROOT / path).exists()} == set()


@each_page
def test_every_make_target_that_a_page_names_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = page.read_text()
    code = [*re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL), *spans(text)]
    named = {name for piece in code for name in re.findall(r"\bmake ([a-z]+)", piece)}
    assert named - targets == set()


def test_the_pictures_are_small_enough_for_a_first_look() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()}
    assert {name for name, size in sizes.items() if size > 300_000} == set()


def test_what_a_deploy_command_is_told_is_told_in_full() -> None:
    told = {row[0].strip("`") for row in rows(ROOT / "docs" / "staging.md", "What it is told")}
    assert told == TOLD_TO_COMMANDS


@each_page
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"(tests/[\w/]+\.py)((?:::\w+)+)", page.read_text()))
    missing = [f"{file}{path}" for file, path in named if path[2:] not in names_in(ROOT / file)]
    assert missing == []


def names_in(file: Path) -> set[str]:
    """Return the names of a file's tests, after their class if they have one."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if hasattr(each, "name")}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found
