"""The faults, by their kind in a registry: another one needs no more than `register` here.

`inject` does its harm and returns what it hit. One that lasts returns at once and ends by itself.
MissedError says that it could not be done: it is then told as "not injected", never as a pass.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import psycopg

from tests import postgres
from tests.chaos.load import Load
from tests.chaos.plan import Strike
from tests.chaos.stage import Stage

TARGET_WITHIN_S = 20.0  # the factory may just be starting


class MissedError(Exception):
    """The fault was not injected; the text says why."""


@dataclass
class Scene:
    """What a fault may work with, and what it leaves to be waited for."""

    stage: Stage
    load: Load
    has_own_disk: bool  # CHIMERA_HOME is a small file system of its own
    server: postgres.Server | None = None  # the database's; None = SQLite
    lasting: list[threading.Thread] = field(default_factory=list)

    def meanwhile(self, work: Callable[[], None]) -> None:
        """Do `work` beside the strikes that follow."""
        thread = threading.Thread(target=work)
        self.lasting.append(thread)
        thread.start()

    def calm(self) -> None:
        """Wait until nothing lasts any more."""
        while self.lasting:
            self.lasting.pop().join()


class Fault(ABC):
    """One kind of harm."""

    kind: str

    @abstractmethod
    def inject(self, scene: Scene, strike: Strike) -> str:
        """Do the harm and return what was hit. Raises MissedError."""


REGISTRY: dict[str, Fault] = {}


def register(fault: Fault) -> None:
    """Make a kind of fault part of every plan."""
    REGISTRY[fault.kind] = fault


def await_one(find: Callable[[], list[psutil.Process]], pick: float) -> psutil.Process:
    """Return one of the processes found, once there are any. Raises MissedError."""
    until = time.monotonic() + TARGET_WITHIN_S
    while time.monotonic() < until:
        found = sorted(_found(find), key=lambda process: process.pid)
        if found:
            return found[int(pick * len(found)) % len(found)]
        time.sleep(0.02)
    raise MissedError("there was no such process")


def _found(find: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
    """Return what `find` finds; nothing while the database is away."""
    from django.db import DatabaseError, InterfaceError, connections

    try:
        return find()
    except (DatabaseError, InterfaceError):
        connections.close_all()
        return []


def some(process: psutil.Process | None) -> list[psutil.Process]:
    """Return a list of the process, or of none."""
    return [] if process is None else [process]


@dataclass
class Kill(Fault):
    """SIGKILL for one process of those that `find` names."""

    kind: str
    find: Callable[[Stage], list[psutil.Process]]

    def inject(self, scene: Scene, strike: Strike) -> str:
        """Kill it."""
        process = await_one(lambda: self.find(scene.stage), strike.pick)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        return f"pid {process.pid}"


class KillEverything(Fault):
    """A power cut: SIGKILL for all processes at once; every other time staged copies too."""

    kind = "kill everything"

    def inject(self, scene: Scene, strike: Strike) -> str:
        """Kill the whole family."""
        await_one(lambda: some(scene.stage.program("qcluster")), 0)
        victims = scene.stage.family()
        if strike.pick > 0.5:
            victims = [*victims, *scene.stage.traces()]
        for victim in victims:
            with contextlib.suppress(psutil.Error):
                victim.kill()
        return f"{len(set(victims))} processes"


class Freeze(Fault):
    """SIGSTOP for a busy worker, longer than its lease, and then SIGCONT."""

    kind = "freeze worker"

    def inject(self, scene: Scene, strike: Strike) -> str:
        """Freeze it, and thaw it later."""
        worker = await_one(lambda: scene.stage.crew(is_idle=False), strike.pick)
        lasts_s = scene.stage.lease_s + 1.5

        def thaw() -> None:
            time.sleep(lasts_s)
            with contextlib.suppress(psutil.Error):
                worker.resume()

        with contextlib.suppress(psutil.Error):
            worker.suspend()
        scene.meanwhile(thaw)
        return f"pid {worker.pid} for {lasts_s:.1f} s"


class RepeatNudges(Fault):
    """Ten nudges through the stored queue, beside those that the broker makes by itself."""

    kind = "repeat nudges"

    def inject(self, scene: Scene, strike: Strike) -> str:
        """Store one nudge ten times."""
        from django.db import DatabaseError, InterfaceError, connections
        from django.utils import timezone
        from django_q.conf import Conf
        from django_q.models import OrmQ

        from tasks.workflow import broker

        nudge = broker.new_nudge()
        try:
            OrmQ.objects.bulk_create(
                OrmQ(key=Conf.CLUSTER_NAME, payload=nudge, lock=timezone.now()) for _ in range(10)
            )
        except (DatabaseError, InterfaceError) as error:
            connections.close_all()
            raise MissedError(f"the database did not take them: {error}") from error
        return "10 times"


class LockDatabase(Fault):
    """Nobody can write: SQLite's one lock, or PostgreSQL's for the tasks, is somebody else's."""

    kind = "lock database"

    def inject(self, scene: Scene, strike: Strike) -> str:
        """Take the lock, and let go of it later."""
        own = _open(scene)
        try:
            if scene.server is None:
                own.execute("BEGIN IMMEDIATE")
            else:
                own.execute("LOCK TABLE tasks_task IN ACCESS EXCLUSIVE MODE")
        except (sqlite3.OperationalError, psycopg.Error) as error:
            own.close()
            raise MissedError(f"the lock was not to be had: {error}") from error

        def release() -> None:
            time.sleep(strike.hold_s)
            with contextlib.suppress(psycopg.Error):  # the server may have been restarted
                own.rollback()
            own.close()

        scene.meanwhile(release)
        return f"for {strike.hold_s:.1f} s"


def _open(scene: Scene) -> Any:
    """Return a connection of our own. Raises MissedError."""
    if scene.server is None:
        path = scene.stage.home / "tasks.db"
        return sqlite3.connect(path, timeout=20, check_same_thread=False)
    try:
        own = scene.server.connect("chimera")
    except psycopg.OperationalError as error:
        raise MissedError(f"the database was away: {error}") from error
    own.autocommit = False
    return own


class RestartDatabase(Fault):
    """PostgreSQL ends as in a crash, stays away for up to three seconds, and starts again."""

    kind = "restart database"

    def inject(self, scene: Scene, strike: Strike) -> str:
        """End it, wait, and start it."""
        server = scene.server
        if server is None:
            raise MissedError("SQLite has no server")
        server.stop()
        away_s = 3 * strike.pick
        time.sleep(away_s)
        server.start()  # here: it ends with the thread that has started it
        return f"away for {away_s:.1f} s"


class CancelSome(Fault):
    """A person cancels one of the open tasks."""

    kind = "cancel task"

    def inject(self, scene: Scene, strike: Strike) -> str:
        """Cancel it over HTTP."""
        until = time.monotonic() + TARGET_WITHIN_S
        while time.monotonic() < until:
            if task_id := scene.load.pick_open(strike.pick):
                return f"{task_id}, answer {scene.load.cancel(task_id)}"
            time.sleep(0.05)
        raise MissedError("there was no open task")


class FillDisk(Fault):
    """No byte is left on the disk of CHIMERA_HOME, for some seconds."""

    kind = "fill disk"

    def inject(self, scene: Scene, strike: Strike) -> str:
        """Write a file until nothing more fits, and remove it later."""
        if not scene.has_own_disk:
            raise MissedError("no file system could be mounted in a namespace of our own")
        path = scene.stage.home / "filler"
        size = _fill(path)
        lasts_s = min(strike.hold_s, 3.0)

        def empty() -> None:
            until = time.monotonic() + lasts_s
            while time.monotonic() < until:
                time.sleep(0.1)
                _fill(path)  # what others gave back meanwhile
            path.unlink()

        scene.meanwhile(empty)
        return f"{size // 2**20} MiB for {lasts_s:.1f} s"


def _fill(path: os.PathLike[str]) -> int:
    """Append until the disk is full; return the size of the file."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        for chunk in (bytes(2**20), bytes(4096)):
            with contextlib.suppress(OSError):
                while os.write(file, chunk):
                    pass
        return os.fstat(file).st_size
    finally:
        os.close(file)


def supervisor_of(stage: Stage) -> list[psutil.Process]:
    """Return the supervisor, once it has begun its programs."""
    return stage.family()[:1] if stage.program("qcluster") else []


for each in (
    Kill("kill worker", lambda stage: stage.crew()),
    Kill("kill busy worker", lambda stage: stage.crew(is_idle=False)),
    Kill("kill idle worker", lambda stage: stage.crew(is_idle=True)),
    Kill("kill pusher", lambda stage: some(stage.role("pusher"))),
    Kill("kill monitor", lambda stage: some(stage.role("monitor"))),
    Kill("kill sentinel", lambda stage: some(stage.sentinel())),
    Kill("kill main", lambda stage: some(stage.program("qcluster"))),
    Kill("kill web", lambda stage: some(stage.program("daphne"))),
    Kill("kill supervisor", supervisor_of),
    KillEverything(),
    Freeze(),
    RepeatNudges(),
    LockDatabase(),
    RestartDatabase(),
    CancelSome(),
    FillDisk(),
):
    register(each)
