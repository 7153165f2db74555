"""Routes of the API, each with and without a slash at its end."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, re_path
from rest_framework.routers import SimpleRouter

from tasks.api.health import HealthView
from tasks.api.views import NowhereView, TaskViewSet


class AnySlashRouter(SimpleRouter):
    """Routes that end as the caller likes: a redirect would turn a POST into a GET."""

    def __init__(self) -> None:
        super().__init__()
        self.trailing_slash = "/?"  # DRF 3.18 takes only a boolean as argument


router = AnySlashRouter()
router.register("tasks", TaskViewSet, basename="task")

urlpatterns: list[URLPattern | URLResolver] = [
    re_path(r"^health/?$", HealthView.as_view(), name="health"),
    re_path(r"^api/", include(router.urls)),
    re_path(r"^api(?:/.*)?$", NowhereView.as_view(), name="api-nowhere"),
]
