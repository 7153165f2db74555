"""Chimera's management commands from anywhere, as in `python -m chimera_site daemon start`."""

from __future__ import annotations

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    """Hand the command line to Django; a setting that does not fit is one sentence, no trace."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chimera_site.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Chimera cannot start: {error}")


if __name__ == "__main__":
    main()
