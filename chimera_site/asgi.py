"""ASGI entry point: pages, API and the live feed, behind the gate."""

import os
import warnings

from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_finished

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chimera_site.settings")
django_application = get_asgi_application()

# These read settings and models, so they come after Django is set up.
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.db import connections  # noqa: E402

from chimera_site import daphne_limit, durable  # noqa: E402
from chimera_site.gate import Gate  # noqa: E402
from tasks.api import health  # noqa: E402, F401 - starts the clock of /health
from tasks.dashboard.routing import websocket_urlpatterns  # noqa: E402

# Static files are small and are read whole; what is large is sent by tasks/api/evidence.py.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous")

daphne_limit.install()
durable.install()
application = Gate(
    ProtocolTypeRouter({"http": django_application, "websocket": URLRouter(websocket_urlpatterns)})
)


def close_connections(**_: object) -> None:
    """Close what the request's thread opened: Django gives each request a thread of its own.

    Kept for a next request that never comes, they would pile up until Python's collector happens
    to run: each with its page cache, and on a server one of the few that it grants.
    """
    connections.close_all()


request_finished.connect(close_connections, sender=ASGIHandler)
