"""The product's settings, over a throw-away CHIMERA_HOME that is gone when the tests are.

CHIMERA_TEST_DATABASE=postgresql has the tests use a PostgreSQL of their own instead of SQLite.
"""

import atexit
import os
import shutil
import tempfile

_home = tempfile.mkdtemp(prefix="chimera-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith("CHIMERA_")]:
    if _name not in {"CHIMERA_CHROMIUM", "CHIMERA_SANDBOX", "CHIMERA_TEST_DATABASE"}:
        del os.environ[_name]
os.environ["CHIMERA_HOME"] = _home
os.environ["CHIMERA_DEMO"] = "0"

if os.environ.get("CHIMERA_TEST_DATABASE") == "postgresql":
    from tests import postgres

    os.environ["CHIMERA_DATABASE_URL"] = postgres.own().url  # conftest.py starts it

from chimera_site.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# A file, not memory: threads and other processes must be able to open the test database too.
if not CHIMERA.database_url:  # noqa: F405
    DATABASES["default"]["TEST"] = {"NAME": CHIMERA.home / "test.db"}  # noqa: F405
