"""Attack a factory by a seeded plan, and check what was seen: `python -m tests.chaos --help`.

Exit code 0: no promise was broken; 1: one was, and the history is kept; 2: it did not begin.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests import postgres
from tests.chaos import disk, plan
from tests.chaos.stage import Stage, forget_options

DISK_MIB = 192
EXTRA = 2  # strikes of a round beyond one of each kind


def main() -> int:
    """Run all rounds and print what they showed."""
    options = parse()
    seed = options.seed if options.seed is not None else secrets.randbelow(10**6)
    folder = Path(tempfile.mkdtemp(prefix="chimera-chaos-"))
    home, notes = folder / "home", folder / "notes"
    for each in (home, notes):
        each.mkdir(mode=0o700)
    server = open_server() if options.postgresql else None
    # The server may have to run as another user, which there is none of in a namespace of ours.
    why = "not beside PostgreSQL" if server else disk.mount(home, DISK_MIB)
    url = server.url if server else ""
    stage = Stage(home, notes, workers=options.workers, lease_s=options.lease, database=url)
    forget_options()
    os.environ.update(stage.environment)
    import django

    django.setup()
    code = attack(options, seed, stage, why, server)
    if code == 0 and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return code


def open_server() -> postgres.Server:
    """Start a PostgreSQL of our own with an empty database; it ends with this process."""
    server = postgres.own()
    server.start()
    with server.connect() as connection:
        connection.execute("CREATE DATABASE chimera")
    return server


def attack(
    options: argparse.Namespace,
    seed: int,
    stage: Stage,
    no_disk: str,
    server: postgres.Server | None,
) -> int:
    """Carry the plan out; return the exit code."""
    from tests.chaos.battle import Battle
    from tests.chaos.faults import REGISTRY, RestartDatabase

    kinds = [kind for kind in REGISTRY if server or kind != RestartDatabase.kind]
    lasting_s = 3.0 if options.short else 10.0
    extra = 0 if options.short else EXTRA
    strikes = plan.make(seed, options.rounds, kinds, extra=extra, longest_s=lasting_s)
    print(f"seed {seed}: {options.rounds} rounds, {len(strikes)} strikes, {options.tasks} tasks")
    if no_disk:
        print(f"fill disk: not injected ({no_disk})")
    battle = Battle(stage, seed, not no_disk, stage.notes / "history.jsonl", server)
    began = time.monotonic()
    try:
        battle.open()
        wrong = []
        for number in range(1, options.rounds + 1):
            share = (
                options.tasks * number // options.rounds
                - options.tasks * (number - 1) // options.rounds
            )
            wrong = battle.fight([s for s in strikes if s.round == number], share)
            done = [
                injury for injury in battle.injuries if injury.round == number and not injury.missed
            ]
            spent_s = time.monotonic() - began
            print(
                f"round {number}: {len(done)} faults, {len(wrong)} violations, {spent_s:.0f} s",
                flush=True,
            )
            if wrong:
                break
        wrong = wrong or battle.close()
    finally:
        stage.end()
    if wrong or options.keep:  # the home may be on a disk that ends with this process
        shutil.copytree(stage.home, stage.notes / "home", symlinks=True)
    report(battle, wrong, is_kept=options.keep)
    return 1 if wrong else 0


def report(battle, wrong: list[object], *, is_kept: bool) -> None:  # type: ignore[no-untyped-def]
    """Print the table of faults, what people got to hear, and the verdict."""
    kinds = sorted({injury.kind for injury in battle.injuries})
    missed = [injury for injury in battle.injuries if injury.missed]
    print(f"\n{'fault':<20} {'injected':>8} {'not':>4}")
    for kind in kinds:
        of_kind = [injury for injury in battle.injuries if injury.kind == kind]
        not_done = sum(injury.missed != "" for injury in of_kind)
        print(f"{kind:<20} {len(of_kind) - not_done:>8} {not_done:>4}")
    print(f"{'together':<20} {len(battle.injuries) - len(missed):>8} {len(missed):>4}")
    for (kind, why), times in Counter((each.kind, each.missed) for each in missed).items():
        print(f"not injected: {kind}, {times} times: {why}")
    codes = Counter(str(asked.code or "unknown") for asked in battle.load.submissions)
    refused = sum(asked.refused for asked in battle.load.submissions)
    answers = ", ".join(f"{code}: {times}" for code, times in sorted(codes.items()))
    print(f"\nsubmissions: {answers}; refused connections: {refused}")
    for reader in battle.readers:
        resyncs = sum(reading.is_resync for reading in reader.readings)
        heard = f"{len(reader.readings)} events in {reader.connections} connections"
        print(f"reader {reader.reader}: {heard}, {resyncs} resyncs")
    print(f"the daemon was started again {battle.stage.restarts} times")
    for each in wrong[:20]:
        print(f"VIOLATED  {each}")
    where = f"; history: {battle.history_file}" if wrong or is_kept else ""
    print(f"seed {battle.seed}: {'BROKEN' if wrong else 'every promise held'}{where}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, help="default: another each time")
    parser.add_argument("--tasks", type=int, default=200, help="in all rounds together")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--lease", type=float, default=3.0, help="seconds")
    parser.add_argument("--postgresql", action="store_true", help="on a server of its own")
    parser.add_argument("--short", action="store_true", help="faults that last do so for 3 s")
    parser.add_argument("--keep", action="store_true", help="keep history and logs in any case")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
