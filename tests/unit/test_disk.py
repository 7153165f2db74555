"""How much room is left."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.disk import shortage


def test_enough_room_is_no_trouble(tmp_path: Path) -> None:
    assert shortage(tmp_path, 0) == ""


def test_too_little_room_is_said_with_both_numbers_and_the_option(tmp_path: Path) -> None:
    free_mb = shutil.disk_usage(tmp_path).free // 10**6
    said = shortage(tmp_path, 10 * free_mb + 10)
    assert str(tmp_path) in said
    assert f"{10 * free_mb + 10} are needed (CHIMERA_MIN_FREE_MB)" in said


def test_a_folder_that_cannot_be_asked_is_no_trouble(tmp_path: Path) -> None:
    assert shortage(tmp_path / "nowhere", 500) == ""
