"""Who may: the local user may everything; a view that names nobody is open to nobody."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:  # its module reads this one, for the default permission
    from rest_framework.views import APIView

# A proxy on this machine speaks for people elsewhere; its own address says nothing about them.
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip")


class DenyAll(BasePermission):
    """The default of every view: somebody forgot to say who may."""

    message = "This address is closed: it does not say who may use it."

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Refuse."""
        return False


class LocalUser(BasePermission):
    """Whoever calls from this machine, or everybody where the operator has set CHIMERA_AUTH=off."""

    message = (
        "Only callers on the machine that runs Chimera may do this. "
        "Set CHIMERA_AUTH=off to open it to everyone who can reach it."
    )

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Say whether the caller is local; no header can make it so, but one can unmake it."""
        if settings.CHIMERA.auth == "off":
            return True
        if any(name in request.headers for name in FORWARDED):
            return False
        return is_loopback(request.META.get("REMOTE_ADDR", ""))


class Anyone(BasePermission):
    """For what tells nothing about tasks."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Allow."""
        return True


def is_loopback(address: str) -> bool:
    """Say whether an IP address is this machine; False for text that is no address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
