"""What pages say when something broke: the database is away, which passes, or a fault of ours."""

from __future__ import annotations

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views import defaults

RETRY_AFTER_S = 5


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer for the exception that is being handled; Django calls this within its handling."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        page = render_to_string("503.html", {"seconds": RETRY_AFTER_S})
        return HttpResponse(page, status=503, headers={"Retry-After": str(RETRY_AFTER_S)})
    return defaults.server_error(request)
