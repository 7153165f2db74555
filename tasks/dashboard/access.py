"""Who may use the dashboard: people on this machine, or everybody where CHIMERA_AUTH=off.

The rule is said once for pages and sockets. A request that a proxy passed on counts as remote,
for its address is the proxy's and says nothing about who asked.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Collection, Mapping
from typing import Any, Concatenate, ParamSpec

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

P = ParamSpec("P")

PASSED_ON = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip"})
REFUSAL = (
    "The dashboard answers only on the machine that it runs on. "
    "Open it there, or start Chimera with CHIMERA_AUTH=off behind a login of your own."
)


def may_use(address: str, headers: Collection[str]) -> bool:
    """Tell whether a caller at `address` with these header names (lower case) may look and act."""
    if settings.CHIMERA.auth == "off":
        return True
    return is_loopback(address) and PASSED_ON.isdisjoint(headers)


def is_loopback(address: str) -> bool:
    """Tell whether `address` is this machine; False for text that is no IP address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def guarded(
    view: Callable[Concatenate[HttpRequest, P], HttpResponse],
) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Refuse callers who may not use the dashboard, with 403."""

    @functools.wraps(view)
    def check(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        names = [name.lower() for name in request.headers]
        if not may_use(str(request.META.get("REMOTE_ADDR", "")), names):
            raise PermissionDenied(REFUSAL)
        return view(request, *args, **kwargs)

    return check


def socket_may_use(scope: Mapping[str, Any]) -> bool:
    """Apply the same rule to an ASGI scope; a socket without an address counts as remote."""
    client = scope.get("client") or ("", 0)
    names = [name.decode("latin-1").lower() for name, _ in scope.get("headers", [])]
    return may_use(str(client[0]), names)
