"""The signing key of this installation, made once and kept in CHIMERA_HOME."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


class SecretKeyError(Exception):
    """The key file cannot be used as it is."""


def read_or_create(path: Path) -> str:
    """Return the key in `path`; make it (mode 0600) on the first call. Safe to race."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _read(path)
    except FileNotFoundError:
        draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(64))
        try:
            os.link(draft, path)  # fails where another process was first: its key counts
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return _read(path)


def _read(path: Path) -> str:
    if path.stat().st_mode & 0o077:
        raise SecretKeyError(f"{path} can be read by others; run: chmod 600 {path}")
    key = path.read_text().strip()
    if len(key) < 50:
        raise SecretKeyError(f"{path} holds no key; restore it from a backup, or delete it")
    return key
