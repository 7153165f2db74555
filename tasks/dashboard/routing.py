"""Routes of the dashboard's sockets."""

from __future__ import annotations

from typing import Any

from django.urls import path

from tasks.dashboard.consumers import FeedConsumer

websocket_urlpatterns: list[Any] = [path("ws/feed/", FeedConsumer.as_asgi(), name="feed")]
