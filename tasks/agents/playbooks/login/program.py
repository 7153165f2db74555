"""Wire the login into a Django site: a module of its own, and a line in the settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

MODULE = "site_login"
_URLCONF = re.compile(r"""^ROOT_URLCONF\s*=\s*["']([\w.]+)["']""", re.MULTILINE)
_MIDDLEWARE = re.compile(r"^MIDDLEWARE\b[^=\n]*=\s*\[\n.*?(?=^\])", re.MULTILINE | re.DOTALL)


class UnfitError(Exception):
    """The site has no server that could check a password."""


def change(files: Mapping[str, str]) -> dict[str, str]:
    """Return the changed and new files by path. Raises UnfitError."""
    found = {path: match[1] for path, text in files.items() if (match := _URLCONF.search(text))}
    if len(found) != 1:
        raise UnfitError(
            "a login has to be checked by the site's server, and this playbook knows Django only"
        )
    [(settings, urlconf)] = found.items()
    text = files[settings]
    if "django.contrib.auth" in text:
        raise UnfitError("the site has accounts already (django.contrib.auth)")
    urls = urlconf.replace(".", "/") + ".py"
    places = [path for path in files if path == urls or path.endswith(f"/{urls}")]
    middleware = _MIDDLEWARE.search(text)
    package = urlconf.rpartition(".")[0]
    if len(places) != 1 or middleware is None or not package:
        raise UnfitError(f"{settings}: MIDDLEWARE or ROOT_URLCONF is not as this playbook knows it")
    module = places[0].rpartition("/")[0] + f"/{MODULE}.py"
    entry = f'"{package}.{MODULE}.LoginMiddleware",'
    own = Path(__file__).with_name("site_login.py.txt").read_text(encoding="utf-8")
    if module in files and entry not in text:
        raise UnfitError(f"{module} is there already")
    if entry not in text:
        text = text[: middleware.end()] + f"    {entry}\n" + text[middleware.end() :]
    return {settings: text, module: own}
