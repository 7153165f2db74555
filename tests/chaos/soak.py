"""Keep a factory busy and watch what it holds: `python -m tests.chaos.soak --minutes 30`.

Exit code 0: nothing grew beyond its bound; 1: something did.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos.stage import Stage, forget_options

EVERY_S = 3.0
TELL_EACH = 20  # samples
WARM_UP = 1 / 3  # of the time: until lists are at their longest, and caches of rows are full
MOST_OPEN = 12  # tasks; more are not submitted until some have ended
KIB, MIB = 2**10, 2**20


@dataclass(frozen=True)
class Sample:
    """What the factory's own processes and its home held at one moment."""

    at: float
    ended: int  # tasks, so far
    handles: float
    threads: float
    memory: float  # MiB of what they have written: see `written`
    zombies: float
    passing: float  # MiB of workspaces and staged copies
    disk: float  # MiB of everything else in the home
    by_program: dict[str, float] = field(default_factory=dict)  # MiB of `memory`

    def __str__(self) -> str:
        return (
            f"{self.ended} tasks, {self.handles:g} handles, {self.threads:g} threads, "
            f"{self.memory:.1f} MiB, {self.zombies:g} zombies, disk {self.disk:.1f} MiB"
        )


@dataclass(frozen=True)
class Bound:
    """How much one figure may grow from the beginning to the end."""

    name: str
    title: str
    unit: str
    by: float
    per_task: float = 0.0  # logs, rows and evidence are kept, and told by `manage.py retention`

    def limit(self, tasks: int) -> float:
        """Return how much more is allowed after so many tasks."""
        return self.by + self.per_task * tasks


BOUNDS = (
    Bound("handles", "file handles", "", by=16),
    Bound("threads", "threads", "", by=8),
    Bound("memory", "memory written", "MiB", by=8),
    Bound("zombies", "zombies", "", by=0),
    Bound("passing", "workspaces, copies", "MiB", by=4),
    Bound("disk", "disk, all else", "MiB", by=16, per_task=0.25),
)


@dataclass(frozen=True)
class Growth:
    """One line of the table."""

    bound: Bound
    begin: float
    end: float
    allowed: float

    @property
    def is_fine(self) -> bool:
        """Say whether the growth is within its bound."""
        return self.end - self.begin <= self.allowed

    def __str__(self) -> str:
        numbers = f"{self.begin:>9.1f} {self.end:>9.1f} {self.end - self.begin:>+9.1f}"
        verdict = "" if self.is_fine else "  TOO MUCH"
        return f"{self.bound.title:<20} {numbers} {self.allowed:>9.1f} {self.bound.unit}{verdict}"


def judge(samples: list[Sample]) -> list[Growth]:
    """Compare the medians of the first and of the last quarter, after the warm-up."""
    steady = samples[int(len(samples) * WARM_UP) :]
    quarter = max(1, len(steady) // 4)
    first, last = steady[:quarter], steady[-quarter:]
    tasks = last[-1].ended - first[0].ended
    growths = []
    for bound in BOUNDS:
        begin, end = (
            statistics.median(getattr(sample, bound.name) for sample in part)
            for part in (first, last)
        )
        growths.append(Growth(bound, begin, end, bound.limit(tasks)))
    return growths


def look(stage: Stage, ended: int) -> Sample:
    """Measure everything once. Blocks for some 100 ms."""
    handles = threads = zombies = 0.0
    programs: dict[str, float] = {}
    for process in stage.family():
        with contextlib.suppress(psutil.Error):
            if process.status() == psutil.STATUS_ZOMBIE:
                zombies += _is_old(process)
            elif stage.is_program(process):
                handles += process.num_fds()
                threads += process.num_threads()
                programs[stage.title(process)] = written(process.pid) / MIB
    passing = sum(_size(stage.home / name) for name in ("scratch", "staging")) / MIB
    disk = _size(stage.home) / MIB - passing
    memory = sum(programs.values())
    return Sample(time.time(), ended, handles, threads, memory, zombies, passing, disk, programs)


def written(pid: int) -> int:
    """Return how many bytes of memory a process has written; a forked page is shared out.

    Not its whole PSS: pages of files, such as libraries, count for less in it while strangers use
    them too, so that it grows when strangers end. What leaks is always written. Raises
    psutil.Error.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    sizes = dict(line.split(":", 1) for line in lines[1:])
    return sum(int(sizes[name].split()[0]) * KIB for name in ("Pss_Anon", "Pss_Shmem"))


def _is_old(process: psutil.Process) -> bool:
    """Say whether its parent had time to reap it."""
    return time.time() - process.create_time() > 60


def _size(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118
    return size


@contextmanager
def busy(stage: Stage, seed: int) -> Iterator[None]:
    """Have tasks submitted and followed within the block, one after the other ends."""
    from tests.chaos.load import BROKEN, Load, Reader, Watcher

    load = Load(stage, seed)
    threads = [Watcher(stage, load), Reader(stage, "steady"), Reader(stage, "restless", 5)]
    closing = threading.Event()

    def visit() -> None:
        while not closing.wait(1):
            for path in ("/", f"/tasks/{load.pick_open(0)}/"):
                with contextlib.suppress(*BROKEN):
                    stage.ask(path)

    def submit() -> None:
        while not closing.wait(0.2):
            if load.count_open() < MOST_OPEN:
                load.submit(1, over_s=0.2)

    people = [threading.Thread(target=each) for each in (submit, visit)]
    for thread in (*threads, *people):
        thread.start()
    try:
        yield
    finally:
        closing.set()
        for each in threads:
            each.closing.set()
        for thread in (*threads, *people):
            thread.join()


def watch(stage: Stage, minutes: float) -> list[Sample]:
    """Measure every few seconds for so long. Blocks."""
    from tasks.lifecycle import OPEN
    from tasks.models import Task

    samples = []
    until = time.monotonic() + minutes * 60
    while time.monotonic() < until:
        time.sleep(EVERY_S)
        samples.append(look(stage, Task.objects.exclude(status__in=OPEN).count()))
        if len(samples) % TELL_EACH == 0:
            print(f"{samples[-1].at - samples[0].at:5.0f} s: {samples[-1]}", flush=True)
    return samples


def main() -> int:
    """Run, print the table, and judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=3)
    minutes, workers = vars(parser.parse_args()).values()
    folder = Path(tempfile.mkdtemp(prefix="chimera-soak-"))
    home, notes = folder / "home", folder / "notes"
    for each in (home, notes):
        each.mkdir(mode=0o700)
    stage = Stage(home, notes, workers=workers, lease_s=30)
    forget_options()
    os.environ.update(stage.environment)
    import django

    django.setup()
    try:
        stage.open()
        with busy(stage, seed=1):
            samples = watch(stage, minutes)
        stage.close()
    finally:
        stage.end()
        shutil.rmtree(folder, ignore_errors=True)
    growths = judge(samples)
    tasks = samples[-1].ended
    print(f"{minutes:g} minutes, {tasks} tasks, {len(samples)} samples, {stage.restarts} restarts")
    print(f"{'':<20} {'begin':>9} {'end':>9} {'growth':>9} {'allowed':>9}")
    for growth in growths:
        print(growth)
    for title in sorted(samples[-1].by_program):
        sizes = [round(sample.by_program.get(title, 0), 1) for sample in samples]
        print(f"  {title}: {sizes[:: max(1, len(sizes) // 12)]} MiB")
    is_fine = all(growth.is_fine for growth in growths) and stage.restarts == 0
    print("nothing grew beyond its bound" if is_fine else "BROKEN")
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
