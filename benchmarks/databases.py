"""Measure the engine on both databases, one after the other: SQLite, then a PostgreSQL of its own.

    make bench [ARGS=…]   (the demo first, then this)

That PostgreSQL writes as one in production does (fsync on), in a temporary folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import postgres

DURABLE = {**postgres.OPTIONS, "fsync": "on", "full_page_writes": "on"}
REPORT = Path("build/engine.json")


def main() -> int:
    """Run `benchmarks.engine` for each database and write what both said."""
    reports = [measure({}, sys.argv[1:])]
    server = postgres.Server(postgres.find_programs(), DURABLE)
    try:
        server.start()
        server.connect().execute("CREATE DATABASE bench").connection.close()
        reports.append(measure({"CHIMERA_DATABASE_URL": server.url_of("bench")}, sys.argv[1:]))
    finally:
        server.remove()
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(reports, indent=1) + "\n")
    print(f"\nwritten to {REPORT}")
    return 0


def measure(changes: dict[str, str], words: list[str]) -> dict[str, object]:
    """Return the report of one run; it prints its figures as they come."""
    print(f"\nThe engine alone, on {'PostgreSQL' if changes else 'SQLite'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as folder:
        report = Path(folder) / "engine.json"
        argv = [sys.executable, "-m", "benchmarks.engine", "--json", str(report), *words]
        subprocess.run(argv, env={**os.environ, **changes}, check=True)
        return dict(json.loads(report.read_text()))


if __name__ == "__main__":
    sys.exit(main())
