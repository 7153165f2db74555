"""What has to go, decided without rows, and what a folder takes, measured without links."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chimera_site.options import load
from tasks.workflow.retention import Ended, Found, Limits, choose
from tasks.workspace.folder import disk_usage

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
NO_LIMIT = Limits(0, 0)


def ended(days_ago: float, size_bytes: int = 10) -> Ended:
    name = f"chimera-{days_ago:g}"
    return Ended(int(days_ago * 10), name, 1, NOW - timedelta(days=days_ago), size_bytes)


def chosen(limits: Limits, *items: Ended, open_bytes: int = 0) -> list[str]:
    total_bytes = open_bytes + sum(item.size_bytes for item in items)
    return [item.task_id for item in choose(Found(items, total_bytes), limits, NOW)]


def test_without_limits_all_is_kept() -> None:
    assert chosen(NO_LIMIT, ended(9999, 10**15)) == []


def test_what_is_older_than_the_days_goes() -> None:
    items = (ended(29.9), ended(30), ended(31))
    assert chosen(Limits(30, 0), *items) == ["chimera-31", "chimera-30"]


def test_beyond_the_size_the_oldest_go_until_the_rest_fits() -> None:
    items = (ended(1), ended(3), ended(2), ended(4))
    assert chosen(Limits(0, 40), *items) == []
    assert chosen(Limits(0, 39), *items) == ["chimera-4"]
    assert chosen(Limits(0, 20), *items) == ["chimera-4", "chimera-3"]


def test_what_went_for_its_age_counts_no_more_for_the_size() -> None:
    assert chosen(Limits(30, 10), ended(31), ended(29)) == ["chimera-31"]


def test_open_tasks_count_for_the_size_and_are_never_named() -> None:
    assert chosen(Limits(0, 100), ended(1), ended(2), open_bytes=500) == ["chimera-2", "chimera-1"]


def test_a_limit_that_rounds_to_nothing_is_still_a_limit() -> None:
    tiny = Limits.of(load({"CHIMERA_HOME": "/h", "CHIMERA_KEEP_GB": "1e-12"}, None))
    assert chosen(tiny, ended(1)) == ["chimera-1"]


def test_zero_in_the_options_is_no_limit() -> None:
    zeros = {"CHIMERA_HOME": "/h", "CHIMERA_KEEP_GB": "0", "CHIMERA_KEEP_DAYS": "0"}
    assert Limits.of(load(zeros, None)) == NO_LIMIT


def test_a_folder_takes_what_its_files_take_and_nothing_behind_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    empty = disk_usage(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"x" * 1_000_000)
    (folder / "link").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    assert disk_usage(folder) - empty < 10_000
    (folder / "inner" / "file").write_bytes(b"x" * 100_000)
    assert 100_000 <= disk_usage(folder) - empty < 200_000


def test_names_and_holes_take_no_room(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"x" * 100_000)
    alone = disk_usage(folder)
    for number in range(5):
        os.link(folder / "file", folder / f"name{number}")
    with (folder / "hollow").open("wb") as file:
        file.truncate(10**12)
    assert disk_usage(folder) - alone < 50_000


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    assert disk_usage(tmp_path / "none") == disk_usage(tmp_path / "link") == 0
