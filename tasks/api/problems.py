"""Errors as the API shows them: application/problem+json, with a sentence that says what to do."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 2
WHOLE = "non_field_errors"  # DRF's name for an error of the body as such


class Conflict(exceptions.APIException):
    """The task is not in a state that allows this."""

    status_code = HTTPStatus.CONFLICT
    default_code = "conflict"


class Gone(exceptions.APIException):
    """It was here, and was removed on purpose."""

    status_code = HTTPStatus.GONE
    default_code = "gone"


class Unprocessable(exceptions.APIException):
    """The request is well-formed, but names something that does not exist here."""

    status_code = HTTPStatus.UNPROCESSABLE_ENTITY
    default_code = "unprocessable"


class TooLarge(exceptions.APIException):
    """The body is larger than the API takes."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


def problem(status: int, detail: str, errors: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """Return the body of an error answer, as RFC 9457 describes it."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    return body


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Turn any exception of a view into an answer; what nobody planned for is logged as a 500."""
    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("the database did not answer: %s", error)
        detail = "The database is busy or cannot be reached. Nothing was changed; try again soon."
        return _answer(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})
    if isinstance(error, exceptions.ValidationError):
        errors = _flatten(error.detail)
        detail = " ".join(f"{entry['field']}: {entry['message']}" for entry in errors)
        return _answer(error.status_code, detail, errors)
    if isinstance(error, exceptions.UnsupportedMediaType):
        return _answer(
            error.status_code, "Send JSON, with the header “Content-Type: application/json”."
        )
    if isinstance(error, exceptions.MethodNotAllowed):
        method = context["request"].method
        return _answer(
            error.status_code, f"{method} is not possible here; the header Allow says what is."
        )
    if isinstance(error, exceptions.APIException):
        return _answer(error.status_code, str(error.detail))
    return _unplanned(error)


def _unplanned(error: Exception) -> Response:
    if isinstance(error, Http404):
        return _answer(404, "There is nothing at this address.")
    if isinstance(error, PermissionDenied):
        return _answer(403, "This is not allowed for you.")
    if isinstance(error, RequestDataTooBig):
        return _answer(413, "The body is too large.")
    if isinstance(error, SuspiciousOperation):
        return _answer(400, "This request cannot be understood.")
    logger.error("the API failed", exc_info=error)
    return _answer(500, "Chimera failed at this request. Its log says why.")


def _answer(
    status: int,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    return Response(problem(status, detail, errors), status=status, headers=headers)


def _flatten(detail: Any, field: str = "") -> list[dict[str, str]]:
    """Return one entry with `field` and `message` for every error in DRF's nested shape."""
    if isinstance(detail, dict):
        nested = [_flatten(value, "" if key == WHOLE else key) for key, value in detail.items()]
    elif isinstance(detail, list):
        nested = [_flatten(value, field) for value in detail]
    else:
        return [{"field": field or "body", "message": str(detail)}]
    return [entry for entries in nested for entry in entries]
