"""The setup of a checkout: what it looks for, what it says, what it doesn't do twice."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts import bootstrap, programs, steps
from scripts.programs import Machine

ROOT = Path(__file__).resolve().parents[2]
DEBIAN_ROOT = Machine(True, True, False, False, "debian", True)
DEBIAN_USER = Machine(False, True, True, True, "debian", True)
UBUNTU_ROOT = Machine(True, True, False, False, "ubuntu", True)


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on the PATH, empty; no browser is named or managed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CHIMERA_CHROMIUM", raising=False)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "managed"))
    monkeypatch.setattr(programs, "MAC_BROWSERS", ())
    return folder


def program(path: Path, script: str = "exit 1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


PAINTER = """for word in "$@"; do case "$word" in
--screenshot=*) printf '\\211PNG' > "${word#--screenshot=}";; esac; done"""


def test_the_named_browser_is_the_only_candidate(
    empty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(empty_path / "chromium")
    monkeypatch.setenv("CHIMERA_CHROMIUM", "/opt/my/chrome")
    assert programs.candidates() == [Path("/opt/my/chrome")]


def test_the_systems_browser_comes_before_playwrights(empty_path: Path, tmp_path: Path) -> None:
    managed = program(tmp_path / "managed" / "chromium-1234" / "chrome-linux64" / "chrome")
    chrome = program(empty_path / "google-chrome")
    chromium = program(empty_path / "chromium")
    assert programs.candidates() == [chromium, chrome, managed]


def test_a_browser_that_paints_nothing_is_passed_over(empty_path: Path) -> None:
    program(empty_path / "chromium", "exit 0")
    chrome = program(empty_path / "google-chrome", PAINTER)
    assert programs.find_browser() == chrome


def test_a_named_browser_that_paints_nothing_is_an_error(
    empty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHIMERA_CHROMIUM", str(program(empty_path / "mine")))
    with pytest.raises(steps.StepError, match=r"CHIMERA_CHROMIUM names \S*mine"):
        programs.find_browser()


@pytest.mark.parametrize(
    ("machine", "has_browser", "expected"),
    [
        (DEBIAN_ROOT, False, ["chromium", "bubblewrap", "ffmpeg"]),
        (DEBIAN_ROOT, True, ["bubblewrap", "ffmpeg"]),
        (UBUNTU_ROOT, False, ["bubblewrap", "ffmpeg"]),  # its chromium only asks for snap
    ],
)
def test_only_what_is_missing_is_installed(
    empty_path: Path, machine: Machine, has_browser: bool, expected: list[str]
) -> None:
    assert programs.missing_packages(machine, has_browser) == expected
    for name in ("bwrap", "ffmpeg"):
        program(empty_path / name)
    assert programs.missing_packages(machine, has_browser) == expected[:-2]


def test_root_installs_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail("it asked"))
    assert programs.apt_prefix(DEBIAN_ROOT, ["ffmpeg"]) == []


@pytest.mark.parametrize("answer", ["", "n", "what?"])
def test_nothing_is_installed_by_sudo_without_a_yes(
    monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert programs.apt_prefix(DEBIAN_USER, ["ffmpeg"]) is None


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail("it asked"))
    machine = Machine(False, True, True, False, "debian", True)
    assert programs.apt_prefix(machine, ["ffmpeg"]) is None


def test_packages_are_installed_after_the_lists_were_read(empty_path: Path, tmp_path: Path) -> None:
    program(empty_path / "apt-get", f'echo "$DEBIAN_FRONTEND $@" >> "{tmp_path}/calls"')
    assert programs.install_packages([], ["chromium", "ffmpeg"], tmp_path / "log")
    assert (tmp_path / "calls").read_text().splitlines() == [
        "noninteractive -y --no-install-recommends update",
        "noninteractive -y --no-install-recommends install chromium ffmpeg",
    ]


def test_packages_that_cannot_be_installed_do_not_end_the_setup(
    empty_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(empty_path / "apt-get", "echo no network; exit 100")
    assert not programs.install_packages([], ["chromium"], tmp_path / "log")
    assert "no network" in capsys.readouterr().out


def test_what_is_missing_is_said_with_what_to_do(empty_path: Path) -> None:
    said = "\n".join(programs.advice(DEBIAN_USER, has_browser=False))
    for word in ("CHIMERA_CHROMIUM", "apt-get install bubblewrap", "apt-get install ffmpeg"):
        assert word in said


@pytest.mark.parametrize(
    ("text", "name"),
    [('ID="debian"\nID_LIKE=x\n', "debian"), ("NAME=x\n", ""), ("ID=arch", "arch")],
)
def test_the_distribution_is_read(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "os-release").write_text(text)
    assert programs.distribution(tmp_path / "os-release") == name


def test_a_failing_step_shows_its_last_words_and_advice(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "print('one'); print('two'); raise SystemExit(3)"]
    with pytest.raises(steps.StepError) as caught:
        steps.run("trying", argv, tmp_path / "log", advice="Try harder.")
    assert str(caught.value) == "trying failed (code 3):\n    one\n    two\nTry harder."
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_a_program_that_is_not_there_is_a_failed_step(tmp_path: Path) -> None:
    with pytest.raises(steps.StepError, match="trying: "):
        steps.run("trying", [str(tmp_path / "nothing")], tmp_path / "log")


def test_settings_that_send_packages_elsewhere_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example")
    environment = steps.clean_environment()
    assert "PIP_TARGET" not in environment
    assert environment["PIP_INDEX_URL"] == "https://mirror.example"


class Recorder(bootstrap.Checkout):
    """A checkout whose slow steps only note that they were taken."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.taken: list[str] = []

    def _make_environment(self) -> None:
        self.taken.append("venv")
        program(self.python)

    def _install(self, dev: bool) -> None:
        self.taken.append("dev" if dev else "packages")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        (tmp_path / name).write_text(f"{name}==1\n")
    return tmp_path


def prepare(root: Path, *, dev: bool = False) -> list[str]:
    checkout = Recorder(root)
    checkout.prepare(dev=dev, want="no")
    return checkout.taken


def test_a_second_run_installs_nothing(root: Path) -> None:
    assert prepare(root) == ["venv", "packages"]
    assert prepare(root) == []


def test_the_development_set_is_added_and_holds_the_other(root: Path) -> None:
    prepare(root)
    assert prepare(root, dev=True) == ["dev"]
    assert prepare(root) == []


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_changed_pins_are_installed(root: Path, name: str) -> None:
    prepare(root)
    (root / name).write_text("other==2\n")
    assert prepare(root) == ["packages"]


def test_another_interpreter_or_place_gets_a_new_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(root)
    monkeypatch.setattr(bootstrap.Checkout, "place", lambda self: "elsewhere")
    assert prepare(root) == ["venv", "packages"]


def test_an_environment_without_its_python_is_made_anew(root: Path) -> None:
    prepare(root)
    (root / ".venv" / "bin" / "python").unlink()
    assert prepare(root) == ["venv", "packages"]


def test_a_damaged_stamp_is_no_stamp(root: Path) -> None:
    prepare(root)
    (root / ".venv" / "bootstrap.json").write_text('{"place": ')
    assert prepare(root) == ["venv", "packages"]


def test_every_requirement_is_pinned_exactly() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (ROOT / name).read_text().splitlines()
        pins = [line for line in lines if line and not line.startswith(("#", "-r"))]
        assert pins
        assert [pin for pin in pins if "==" not in pin] == []


def test_what_pyproject_asks_for_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["server"]
    pinned = {_name(line) for line in (ROOT / "requirements.txt").read_text().splitlines()}
    assert {_name(line) for line in wanted} - pinned == set()


def _name(line: str) -> str:
    head = line.split(";")[0]
    for sign in "[=<>~ ":
        head = head.split(sign)[0]
    return head.lower().replace("_", "-")
