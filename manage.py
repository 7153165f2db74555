#!/usr/bin/env python
"""Run Chimera's management commands."""

from chimera_site.__main__ import main

if __name__ == "__main__":
    main()
