"""The scripted agent's program: stands alone, runs in the sandbox, standard library only.

FOLDER/<role>/<round>/ (else FOLDER/<role>/) may hold

    files/       copied over the workspace; {feature}, {task_id}, {test_path} and {start_path} are
                 replaced in names (as @test_path@) and in contents
    delete.txt   paths to remove, one a line
    answer.txt   printed: what a reviewer says
    mode.txt     one of: hang, flood, crash, lie, nothing, slow SECONDS
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

FLOOD_BYTES = 200 * 1024 * 1024
CHUNK = b"flood " * 10_000


def main() -> None:
    """Read the brief from standard input and play the part."""
    brief = json.loads(sys.stdin.read())
    part = find_part(Path(sys.argv[1]), brief["role"], brief["round"])
    mode = _read(part / "mode.txt").split()
    if mode:
        misbehave(mode)
    if mode[:1] not in (["lie"], ["nothing"]):
        replay(part, brief)
    answer = _read(part / "answer.txt")
    print(answer or "I have done everything that was asked, and all tests pass.")


def find_part(folder: Path, role: str, round_number: int) -> Path:
    """Return the folder for this role in this round."""
    exact = folder / role / str(round_number)
    return exact if exact.is_dir() else folder / role


def misbehave(mode: list[str]) -> None:
    """Do what the mode says; most of them do not return."""
    print(f"I am told to {' '.join(mode)}.", flush=True)  # whoever waits for that reads the log
    if mode[0] == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(3600)
    if mode[0] == "flood":
        for _ in range(FLOOD_BYTES // len(CHUNK)):
            os.write(1, CHUNK)
    if mode[0] == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode[0] == "slow":
        time.sleep(float(mode[1]))


def replay(part: Path, brief: dict[str, str]) -> None:
    """Copy the files over the workspace and remove what is to be removed."""
    keys = ("feature", "task_id", "test_path", "start_path")
    for source in sorted((part / "files").rglob("*")):
        name = str(source.relative_to(part / "files"))
        if not source.is_file():
            continue
        text = source.read_text()
        for key in keys:
            name = name.replace(f"@{key}@", brief[key])
            text = text.replace("{" + key + "}", brief[key])
        target = Path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for name in _read(part / "delete.txt").splitlines():
        Path(name).unlink()


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


if __name__ == "__main__":
    main()
