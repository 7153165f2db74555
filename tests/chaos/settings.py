"""The product's settings, with phases that need no browser and write down what they do."""

import os
from pathlib import Path

from chimera_site.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos.apps.ChaosConfig"]  # noqa: F405

# Outside of CHIMERA_HOME, whose disk may be full.
CHAOS_NOTES = Path(os.environ["CHAOS_NOTES"])
