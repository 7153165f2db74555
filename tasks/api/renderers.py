"""JSON out, whatever the rows hold; and which of the formats a caller gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request

from tasks.api.problems import PROBLEM_JSON


class SafeJSONRenderer(JSONRenderer):
    """JSON that no text in a row can break; errors are marked as problems."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return `data` as UTF-8."""
        response = (renderer_context or {}).get("response")
        # The browsable pages call another instance for the part that they show.
        if response is not None and response.exception and response.accepted_renderer is self:
            response["Content-Type"] = PROBLEM_JSON
        try:
            return super().render(data, accepted_media_type, renderer_context)
        except UnicodeEncodeError:  # half a surrogate pair in what an agent reported
            return json.dumps(data, cls=self.encoder_class).encode("ascii")


class LenientNegotiation(DefaultContentNegotiation):
    """Give JSON to a caller who asks for a format that there is not, rather than nothing."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the renderer and its media type. Raises Http404 for an unknown `?format=`."""
        try:
            chosen = super().select_renderer(request, renderers, format_suffix)
            return cast("tuple[BaseRenderer, str]", chosen)
        except NotAcceptable:
            return renderers[0], renderers[0].media_type
