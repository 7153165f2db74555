"""Hostile text made plain: no escape sequences, nothing that hides or reorders what is read.

This is no substitute for escaping; the templates do that, and scripts set textContent only.
"""

from __future__ import annotations

import re

# CSI, then OSC and the other string sequences up to their end, then any other two-byte escape.
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# Bidirectional controls can make code read otherwise than it runs ("Trojan Source").
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def plain(text: str, limit: int | None = None) -> str:
    """Return `text` without escape sequences, hidden characters shown as [U+202E]; \\t, \\n stay.

    `limit` cuts in characters, and an ellipsis then says so.
    """
    if limit is not None and len(text) > limit:
        text = text[:limit] + "…"
    text = _ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _HIDDEN.sub(lambda found: f"[U+{ord(found.group()):04X}]", text)


def duration(seconds: float) -> str:
    """Say a span as people do: "8 s", "3 min 05 s", "2 h 10 min", "4 d 3 h"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def size(size_bytes: int) -> str:
    """Say a size with one digit after the point: "812 B", "4.2 kB", "1.3 MB"."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1000:.1f} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"
