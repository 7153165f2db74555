"""Options: environment over file over defaults, and loud when wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chimera_site.options import FILE_KEYS, OptionError, Options, environment, load


def options(environ: dict[str, str] | None = None, text: str | None = None, **kw: Path) -> Options:
    file = kw.get("file")
    if file is not None and text is not None:
        file.write_text(text)
    return load({"CHIMERA_HOME": "/srv/chimera", **(environ or {})}, file)


def test_defaults_listen_on_loopback_only() -> None:
    found = options()
    assert (found.api_host, found.api_port, found.max_workers) == ("127.0.0.1", 8000, 5)
    assert (found.max_retries, found.lease_s, found.priority_aging_s) == (3, 30, 600)
    assert (found.demo, found.sandbox, found.log_level) == (True, "auto", "INFO")


def test_evidence_and_staging_copies_have_an_end_by_default() -> None:
    found = options()
    assert (found.keep_days, found.keep_gb, found.staging_hours) == (30, 20.0, 168)


def test_half_a_gigabyte_must_be_free_by_default() -> None:
    assert options().min_free_mb == 500
    assert options({"CHIMERA_MIN_FREE_MB": "0"}).min_free_mb == 0


def test_a_part_of_a_gigabyte_is_a_size() -> None:
    assert options({"CHIMERA_KEEP_GB": "0.5"}).keep_gb == 0.5


def test_the_database_lies_in_the_home() -> None:
    assert options().db_path == Path("/srv/chimera/tasks.db")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    text = "api:\n  port: 9001\n  host: 127.0.0.2\n"
    found = options({"CHIMERA_API_PORT": "9002"}, text, file=tmp_path / "c.yml")
    assert (found.api_port, found.api_host) == (9002, "127.0.0.2")


def test_every_key_of_the_example_file_is_known() -> None:
    root = Path(__file__).resolve().parents[2]
    example = root / "deployment" / "chimera-daemon.example.yml"
    found = load({}, example)
    assert found.db_path == Path("/var/lib/chimera/tasks.db")
    sections = [
        line.strip().split(":")[0] for line in example.read_text().splitlines() if line[:2] == "  "
    ]
    assert sorted(sections) == sorted(key.split(".")[1] for key in FILE_KEYS)


def test_an_empty_value_is_the_default() -> None:
    assert options({"CHIMERA_API_PORT": "", "CHIMERA_LOG_LEVEL": ""}).api_port == 8000


def test_a_word_is_taken_in_any_case() -> None:
    assert options({"CHIMERA_LOG_LEVEL": "debug"}).log_level == "DEBUG"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CHIMERA_API_PORT", "http", "a whole number from 0 to 65535"),
        ("CHIMERA_API_PORT", "65536", "a whole number from 0 to 65535"),
        ("CHIMERA_API_PORT", "80.5", "a whole number"),
        ("CHIMERA_MAX_WORKERS", "0", "from 1 to 200"),
        ("CHIMERA_POLL_INTERVAL", "nan", "a number from 0.001 to 60"),
        ("CHIMERA_LEASE_SECONDS", "-1", "a number from 1 to 3600"),
        ("CHIMERA_LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR"),
        ("CHIMERA_SANDBOX", "maybe", "auto, off"),
        ("CHIMERA_DEMO", "yes", "from 0 to 1"),
        ("CHIMERA_KEEP_DAYS", "-1", "a whole number from 0 to 36500"),
        ("CHIMERA_KEEP_DAYS", "1.5", "a whole number"),
        ("CHIMERA_KEEP_GB", "inf", "a number from 0 to 1000000"),
        ("CHIMERA_STAGING_HOURS", "-1", "from 0 to 87600"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_fit(name: str, value: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        options({name: value})
    assert f"{name}='{value}'" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("api: [", "not valid YAML"),
        ("- a list", "sections such as api:"),
        ("api:\n  prot: 1\n", "unknown key 'api.prot'; known are database.path"),
        ("colour: blue\n", "unknown key 'colour'"),
        ("database:\n  path:\n", "database.path has no value"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "chimera-daemon.yml"
    with pytest.raises(OptionError) as caught:
        options({}, text, file=file)
    assert str(file) in str(caught.value)
    assert words in str(caught.value)


def test_an_empty_file_and_a_missing_one_change_nothing(tmp_path: Path) -> None:
    assert options({}, "", file=tmp_path / "a.yml") == options({}, file=tmp_path / "none.yml")


def test_browsers_at_once_follow_the_cores() -> None:
    assert options().max_browsers == (os.cpu_count() or 1)


def test_relative_paths_mean_the_same_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = options({"CHIMERA_HOME": "home", "CHIMERA_DB_PATH": "own.db"})
    assert (made.home, made.db_path) == (tmp_path / "home", tmp_path / "own.db")
    for name, value in {"CHIMERA_HOME": "home", "CHIMERA_DB_PATH": "own.db"}.items():
        monkeypatch.setenv(name, value)
    passed_on = environment()
    assert passed_on["CHIMERA_HOME"] == str(tmp_path / "home")
    assert passed_on["CHIMERA_DB_PATH"] == str(tmp_path / "own.db")


def test_a_database_of_another_kind_is_refused_and_its_password_not_shown() -> None:
    with pytest.raises(OptionError, match="must start with postgres://") as refused:
        options({"CHIMERA_DATABASE_URL": "mysql://me:secret@db/chimera"})
    assert "secret" not in str(refused.value)
