"""Serve the shop on this machine: python -m bookshop --port 8010."""

from __future__ import annotations

import argparse
import os
import socketserver

os.environ["DJANGO_SETTINGS_MODULE"] = "bookshop.settings"

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

HOST = "127.0.0.1"


class Server(ThreadedWSGIServer):
    """One process, one thread per request."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which can take seconds without a network."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]
        self.setup_environ()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m bookshop", description=__doc__)
    parser.add_argument("--port", type=int, default=8010)
    port = parser.parse_args().port
    application = get_wsgi_application()
    with Server((HOST, port), WSGIRequestHandler) as server:
        server.set_app(application)
        print(f"Marginalia is open at http://{HOST}:{server.server_port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("Closed.", flush=True)


main()
