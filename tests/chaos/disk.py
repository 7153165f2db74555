"""A small file system of our own, in a namespace that needs no rights and ends with us."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


def mount(folder: Path, size_mib: int) -> str:
    """Mount an empty tmpfs at `folder`, seen by this process and its children alone.

    Returns why that can't be had; "" = done. Call it while the process has one thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        return f"no namespace: {os.strerror(ctypes.get_errno())}"
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    except OSError as error:
        return f"no user of its own: {error}"
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        return f"no mount of its own: {os.strerror(ctypes.get_errno())}"
    options = f"size={size_mib}m,mode=700".encode()
    if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, options):
        return f"no tmpfs: {os.strerror(ctypes.get_errno())}"
    return ""
