"""The signing key: made once, kept private, never replaced behind anybody's back."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from chimera_site.secret_key import SecretKeyError, read_or_create


def test_the_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret_key"
    assert read_or_create(path) == read_or_create(path)
    assert len(read_or_create(path)) > 50


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    read_or_create(tmp_path / "secret_key")
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret_key"
    read_or_create(path)
    path.chmod(0o640)
    with pytest.raises(SecretKeyError, match="chmod 600"):
        read_or_create(path)


@pytest.mark.parametrize("content", ["", "short\n"])
def test_a_damaged_key_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secret_key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(SecretKeyError, match="holds no key"):
        read_or_create(path)
    assert path.read_text() == content


def test_racing_starters_get_the_same_key(tmp_path: Path) -> None:
    path, keys = tmp_path / "secret_key", []
    gate = threading.Barrier(8)

    def start() -> None:
        gate.wait(timeout=10)
        keys.append(read_or_create(path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_no_draft_is_left_behind(tmp_path: Path) -> None:
    read_or_create(tmp_path / "secret_key")
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]
