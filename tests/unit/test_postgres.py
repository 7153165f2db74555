"""The PostgreSQL that tests bring along, where the system has none."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.acceptance.engine import ROOT, wait_for

KEEPER = """
import sys, time
from tests import postgres

server = postgres.Server(postgres.find_programs())
server.start()
print(server.folder, flush=True)
time.sleep(60)
"""


def test_a_server_runs_from_a_folder_that_others_cannot_enter(tmp_path: Path) -> None:
    packaged = postgres.packaged_programs()
    assert packaged is not None, "requirements-dev.txt names it"
    tmp_path.chmod(0o700)
    (tmp_path / "site").symlink_to(packaged.parents[2])
    server = postgres.Server(tmp_path / "site" / packaged.relative_to(packaged.parents[2]))
    try:
        server.start()
        server.stop(signal.SIGQUIT)
        with pytest.raises(psycopg.OperationalError):
            server.connect()
        server.start()
        with server.connect() as connection:
            (version,) = connection.execute("SHOW server_version_num").fetchone() or ("",)
        assert int(version) >= 140_000
    finally:
        server.remove()
    assert not server.folder.exists()


def test_a_killed_test_leaves_no_server_behind() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KEEPER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as keeper:
        try:
            assert keeper.stdout is not None
            folder = Path(keeper.stdout.readline().strip())
            assert (folder / postgres.SOCKET).is_socket()
        finally:
            keeper.kill()
    try:
        wait_for(lambda: not (folder / postgres.SOCKET).exists(), 10, "the server's end")
    finally:
        shutil.rmtree(folder)
