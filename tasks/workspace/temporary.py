"""Where files for a moment are made: below the home, so that what a killed process left is found.

In the machine's own folder for such files nobody would ever remove them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

NAME = "tmp"  # below CHIMERA_HOME


def keep_in_home(home: Path) -> None:
    """Have this process, and those that it forks, make its temporary files below `home`."""
    folder = home / NAME
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    tempfile.tempdir = str(folder)
