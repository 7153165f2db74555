"""Origins of sites: how they are written, which a project allows, which one deployment needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_STAGING_URL = 480  # characters; what a deployment's row holds, and room for a slash
MAX_HOST = 253  # characters, as the DNS has it
# An allowed origin; `*.` stands for one more label, as in a certificate.
_PATTERN = re.compile(r"(https?)://(\*\.)?([\w-]+(?:\.[\w-]+)*)(?::(\d{1,5}))?/?", re.ASCII)


def origin_of(url: str) -> str:
    """Return scheme://host:port of an http(s) URL, lower case, port always named.

    Raises ValueError where the URL has no fit host, another scheme, or a port out of range.
    """
    parts = urlsplit(url)
    has_host = 0 < len(parts.hostname or "") <= MAX_HOST
    if parts.scheme not in DEFAULT_PORTS or not has_host:
        raise ValueError(f"not an http(s) URL: {url!r}")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or DEFAULT_PORTS[parts.scheme]}"


def is_loopback(host: str) -> bool:
    """Say whether browsers take a host name for this machine, whatever a resolver says."""
    return host in {"localhost", "127.0.0.1"} or host.endswith(".localhost")


def pattern_of(text: str) -> str:
    """Return an allowed origin as it is compared: lower case, port named, perhaps with `*.`.

    Raises ValueError, whose text says how to write one.
    """
    match = _PATTERN.fullmatch(text.strip().lower())
    port = int(match[4] or DEFAULT_PORTS[match[1]]) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(
            f"{text!r} is not an origin; write it like https://staging.shop.example or "
            "https://*.preview.shop.example, without a path"
        )
    return f"{match[1]}://{match[2] or ''}{match[3]}:{port}"


def is_allowed(url: str, patterns: Sequence[str]) -> bool:
    """Say whether a URL lies at one of the allowed origins. Raises ValueError for no URL."""
    origin = origin_of(url)
    return bool({origin, wildcard_of(origin)} & {pattern_of(pattern) for pattern in patterns})


def wildcard_of(origin: str) -> str:
    """Return the pattern with `*.` that an origin fits, itself if it is one; "" if none does."""
    scheme, _, rest = origin.partition("://")
    first, _, parent = rest.partition(".")
    return f"{scheme}://*.{parent}" if first and parent else ""


def overlap(one: str, other: str) -> bool:
    """Say whether two addresses, as `addresses_of` gives them, have a place in common."""
    return one == other or wildcard_of(one) == other or wildcard_of(other) == one


def known_url(staging_url: str, patterns: Sequence[str]) -> str:
    """Return where a deployment will be, if that is known before: what was asked for, else the
    only allowed origin. "" where the deploy command has the choice.
    """
    if staging_url:
        return staging_url
    only = patterns[0].strip().rstrip("/") if len(patterns) == 1 else "*"
    return "" if "*" in only else f"{only}/"


def addresses_of(staging_url: str, patterns: Sequence[str]) -> list[str]:
    """Return the addresses that a deployment needs for itself, sorted.

    The one origin if it is known before; else all that the project allows, since the deploy
    command may choose any of them.
    """
    url = known_url(staging_url, patterns)
    return [origin_of(url)] if url else sorted(pattern_of(pattern) for pattern in patterns)


def base_url_of(url: str) -> str:
    """Return what paths of the site are appended to: no query, no fragment, no slash at the end."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
