"""Rooms: a site in a network of its own, and the ways in and out."""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tasks.workspace import sandbox, site, staging
from tasks.workspace.process import Completed, run
from tasks.workspace.sandbox import Jail, Network, Sandbox
from tasks.workspace.site import SiteError, SiteOrder
from tests.acceptance.engine import wait_for
from tests.escape import ESCAPE, escaped, processes_with


@pytest.fixture(params=["auto", "off"])
def box(request: pytest.FixtureRequest) -> Sandbox:
    return sandbox.find(request.param)


@pytest.fixture
def order(tmp_path: Path) -> SiteOrder:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "index.html").write_text("<h1>Hello</h1>")
    serve = lambda port: (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")  # noqa: E731
    return SiteOrder(serve, Jail(tree), "chimera-1.localhost", "/", tmp_path / "site.log", 10)


@pytest.fixture
def kept(box: Sandbox, order: SiteOrder, tmp_path: Path) -> Iterator[tuple[int, int]]:
    pid, port = site.keep(box, order, tmp_path / "keeper.pid")
    started = psutil.Process(pid).create_time()
    yield pid, port
    staging.end(pid, started)


def fetch(box: Sandbox, room: site.Room, tree: Path, url: str) -> Completed:
    code = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=5).read())"
    jail = Jail(tree, network=Network.ROOM)
    argv = (sys.executable, "-I", "-c", code)
    return run(box.command(jail, argv, room_pid=room.pid), timeout_s=20)


def test_a_child_in_the_room_reaches_the_site(box: Sandbox, order: SiteOrder) -> None:
    with site.running(box, order) as room:
        port = room.base_url.rsplit(":", 1)[1]
        seen = fetch(box, room, order.jail.workspace, f"http://127.0.0.1:{port}/")
    assert "Hello" in seen.output_tail
    assert "GET / HTTP" in order.log.read_text()


def test_the_room_of_a_sandboxed_site_is_closed_to_this_machine(order: SiteOrder) -> None:
    with site.running(sandbox.find("auto"), order) as room:
        port = room.base_url.rsplit(":", 1)[1]
        with contextlib.suppress(OSError):  # something of this machine's may listen there
            urllib.request.urlopen(f"http://127.0.0.1:{port}/from-outside", timeout=5)
    assert "from-outside" not in order.log.read_text()


def test_no_process_is_left_when_the_block_ends(box: Sandbox, order: SiteOrder) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with site.running(box, order):
        during = psutil.Process().children(recursive=True)
        assert len(during) > len(before)
    rest = psutil.wait_procs([p for p in during if p.pid not in before], timeout=5)[1]
    assert rest == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('no luck'); raise SystemExit(3)", "it ended with code 3"),
        ("import time; print('asleep'); time.sleep(60)", "nothing listened on its port"),
    ],
)
def test_a_site_that_does_not_come_up_says_why(
    box: Sandbox, order: SiteOrder, code: str, said: str
) -> None:
    broken = SiteOrder(
        lambda port: (sys.executable, "-u", "-c", code),
        order.jail,
        order.host,
        "/",
        order.log,
        health_timeout_s=2,
    )
    with pytest.raises(SiteError, match=said), site.running(box, broken):
        pass


def test_a_health_page_that_fails_is_not_healthy(box: Sandbox, order: SiteOrder) -> None:
    lost = SiteOrder(order.argv, order.jail, order.host, "/missing", order.log, 4)
    with pytest.raises(SiteError, match="/missing answered 404"), site.running(box, lost):
        pass


def test_a_kept_site_answers_on_a_loopback_port(kept: tuple[int, int]) -> None:
    _, port = kept
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        assert b"Hello" in answer.read()


def test_a_keeper_leads_a_group_of_its_own_and_says_who_it_is(
    kept: tuple[int, int], tmp_path: Path
) -> None:
    pid, _ = kept
    assert os.getpgid(pid) == pid
    assert (tmp_path / "keeper.pid").read_text() == str(pid)


def test_an_ended_keeper_takes_its_site_along(
    box: Sandbox, order: SiteOrder, tmp_path: Path
) -> None:
    pid, port = site.keep(box, order, tmp_path / "keeper.pid")
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    staging.end(pid, process.create_time())
    assert psutil.wait_procs(family, timeout=5)[1] == []
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)


def test_another_process_with_the_keepers_pid_is_spared() -> None:
    staging.end(os.getpid(), psutil.Process().create_time() - 100)
    assert staging.is_alive(os.getpid(), psutil.Process().create_time())


def test_a_doorway_that_cannot_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "room.py"
    program.write_text("raise OSError('user and network namespaces are not permitted here')\n")
    monkeypatch.setattr(site, "ROOM_PROGRAM", program)
    claim = r"No way to http://staging\.localhost:9000 could be made"
    with (
        pytest.raises(site.SiteError, match=claim),
        site.doorway(sandbox.find("auto"), "http://staging.localhost:9000/"),
    ):
        pass


def test_a_doorway_leads_to_one_port_and_to_no_other(
    order: SiteOrder, kept: tuple[int, int], tmp_path: Path
) -> None:
    box = sandbox.find("auto")
    _, port = kept
    other_pid, other = site.keep(box, order, tmp_path / "keeper.pid")
    try:
        with site.doorway(box, f"http://chimera-1.localhost:{port}") as room:
            tree = order.jail.workspace
            assert fetch(box, room, tree, f"http://127.0.0.1:{port}/").ok
            assert not fetch(box, room, tree, f"http://127.0.0.1:{other}/").ok
    finally:
        staging.end(other_pid, psutil.Process(other_pid).create_time())


@pytest.fixture
def escaping(order: SiteOrder) -> SiteOrder:
    """Return the order of a site that first starts daemons; they carry its log's path."""
    code = ESCAPE + "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    mark = str(order.log)
    serve = lambda port: (sys.executable, "-Ic", code, mark, *order.argv(port)[1:])  # noqa: E731
    return replace(order, argv=serve, jail=replace(order.jail, writable=True))


def test_the_daemons_of_a_site_end_with_it(box: Sandbox, escaping: SiteOrder) -> None:
    mark = str(escaping.log)
    with site.running(box, escaping):
        assert escaped(escaping.jail.workspace) == 3
        assert len(processes_with(mark)) >= 3
    wait_for(lambda: not processes_with(mark), 60)


def test_the_daemons_of_a_kept_site_end_with_its_keeper(
    box: Sandbox, escaping: SiteOrder, tmp_path: Path
) -> None:
    pid, _ = site.keep(box, escaping, tmp_path / "keeper.pid")
    assert len(processes_with(str(escaping.log))) >= 3
    staging.end(pid, psutil.Process(pid).create_time())
    wait_for(lambda: not processes_with(str(escaping.log)), 60)
