"""System checks: what would make the factory misbehave, said before it starts."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def check_app_order(**_: Any) -> list[CheckMessage]:
    """Hold `tasks` before `django_q`, so that its qcluster command is the one that runs."""
    names = [config.name for config in apps.get_app_configs()]
    if "django_q" in names and names.index("tasks") > names.index("django_q"):
        return [Error("`tasks` must stand before `django_q` in INSTALLED_APPS", id="chimera.E001")]
    return []


@register()
def check_queue_settings(**_: Any) -> list[CheckMessage]:
    """Hold the settings that keep django-q2 from queueing, retrying and losing work itself."""
    cluster: dict[str, Any] = settings.Q_CLUSTER
    wanted = {"queue_limit": 1, "bulk": 1, "ack_failures": True, "max_attempts": 1}
    wrong = [name for name, value in wanted.items() if cluster.get(name) != value]
    if cluster["retry"] <= cluster["timeout"]:
        wrong.append("retry")
    return [Error(f"Q_CLUSTER[{name!r}] is not as designed", id="chimera.E002") for name in wrong]


@register()
def check_no_pool(**_: Any) -> list[CheckMessage]:
    """Refuse psycopg's pool: forked workers would share its sockets."""
    if settings.DATABASES["default"].get("OPTIONS", {}).get("pool"):
        return [Error("a connection pool cannot be used with forked workers", id="chimera.E003")]
    return []
