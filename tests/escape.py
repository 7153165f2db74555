"""A program whose children do all to outlive it, and how to find them."""

from __future__ import annotations

from pathlib import Path

import psutil

# Three times: fork twice, begin a session, forget the environment, ignore SIGTERM, hold nothing
# open, and go on for an hour with the first argument as a word to be found by.
ESCAPE = """\
import os, signal, sys, time

def escape():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            open(f"escaped-{os.getpid()}", "w").close()
            os.execve(sys.executable, [sys.executable, "-Ic", "import time; time.sleep(3600)",
                                       sys.argv[1]], {})
        os._exit(0)
    os.wait()

for _ in range(3):
    escape()
while len([name for name in os.listdir(".") if name.startswith("escaped-")]) < 3:
    time.sleep(0.01)
"""
HANG = "open('hangs', 'w').close()\ntime.sleep(3600)\n"


def processes_with(word: str) -> list[psutil.Process]:
    """Return the processes of this machine, in sandboxes too, that have `word` as an argument."""
    listed = psutil.process_iter(["cmdline", "status"])
    return [
        each
        for each in listed
        if word in (each.info["cmdline"] or ()) and each.info["status"] != psutil.STATUS_ZOMBIE
    ]


def escaped(folder: Path) -> int:
    """Say how many have got away from the folder's program."""
    return len(list(folder.glob("escaped-*")))
