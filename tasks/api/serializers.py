"""What callers may send: each field with its limits, and nothing beside the known fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from rest_framework import serializers

from tasks.addresses import origin_of

MAX_FEATURE = 10_000
MAX_URL = 2000

# What browsers and URL parsers read differently, and what belongs in no URL at all.
_UNFIT_IN_URL = re.compile(r"[\s\\<>\"{}|^`]")
_HOST = re.compile(r"\[[0-9a-f:.]+\]|[\w-]+(\.[\w-]+)*\.?")


class Strict(serializers.Serializer[Any]):
    """A JSON object with known fields only."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Refuse what is no object; DRF would word it otherwise for null."""
        if not isinstance(data, Mapping):
            raise serializers.ValidationError({"body": "must be a JSON object."})
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Any:
        """Return the checked values. Raises ValidationError with every error, not the first."""
        known = ", ".join(self.fields)
        errors: dict[str, Any] = {
            ascii(name[:60])[1:-1]: [f"is not a known field; known are {known}."]
            for name in list(data)[:20]
            if name not in self.fields
        }
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            found = error.detail if isinstance(error.detail, dict) else {"body": error.detail}
            raise serializers.ValidationError({**found, **errors}) from error
        if errors:
            raise serializers.ValidationError(errors)
        return values


class Text(serializers.CharField):
    """A JSON string, kept as it is; a number is not taken for one."""

    default_error_messages = {"invalid": "must be a string."}

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        """Return `data` if it is a string."""
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class WholeNumber(serializers.IntegerField):
    """A JSON integer; no 5.0, no "5", no true."""

    default_error_messages = {"invalid": "must be a whole number."}

    def to_internal_value(self, data: Any) -> int:
        """Return `data` if it is a whole number."""
        if type(data) is not int:
            self.fail("invalid")
        return data


def refuse_blank(value: str) -> None:
    """Refuse text of white space only."""
    if not value.strip():
        raise serializers.ValidationError("is empty; say what the site should do.")


def refuse_odd_url(value: str) -> None:
    """Refuse what is not an http(s) URL of a site, or carries a user name or a password."""
    if value == "":
        return
    if _UNFIT_IN_URL.search(value) or not value.isprintable():
        raise serializers.ValidationError(
            "holds a space, a control character or another character that no URL has; encode it."
        )
    try:
        origin_of(value)
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise serializers.ValidationError(
            "is not a URL of a site; write it like https://app.example/login."
        ) from error
    if "@" in parts.netloc:
        raise serializers.ValidationError(
            "carries a user name or a password; leave them out, for they would be stored."
        )
    host = re.sub(r":\d*\Z", "", parts.netloc.lower())
    if port == 0 or not _HOST.fullmatch(host):
        raise serializers.ValidationError("has no host that can be reached; correct it.")


_RANGE = "must be a whole number from 1 to 10; 10 goes first."
_TEXT = {"required": "is missing.", "null": "may not be null.", "blank": "is empty."}


class TaskRequest(Strict):
    """A feature request; null in an optional field means its default."""

    feature = Text(
        max_length=MAX_FEATURE,
        validators=[refuse_blank],
        error_messages={
            **_TEXT,
            "required": "is missing; say what the site should do.",
            "blank": "is empty; say what the site should do.",
            "max_length": f"is longer than {MAX_FEATURE} characters; shorten it.",
        },
    )
    target_url = Text(
        max_length=MAX_URL,
        validators=[refuse_odd_url],
        error_messages={
            **_TEXT,
            "required": "is missing; give the address of the page, like https://app.example/.",
            "max_length": f"is longer than {MAX_URL} characters; shorten it.",
        },
    )
    staging_url = Text(
        required=False,
        allow_null=True,
        allow_blank=True,
        max_length=MAX_URL,
        validators=[refuse_odd_url],
        error_messages={"max_length": f"is longer than {MAX_URL} characters; shorten it."},
    )
    priority = WholeNumber(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=10,
        error_messages={"invalid": _RANGE, "min_value": _RANGE, "max_value": _RANGE},
    )
    project = Text(required=False, allow_null=True, allow_blank=True, max_length=60)


class RetryRequest(Strict):
    """What POST …/retry takes, if anything."""

    from_phase = Text(required=False, allow_null=True, max_length=60)
