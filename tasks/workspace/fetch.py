"""Ask a site for one page, as a program of its own: whatever the site does, it ends with it.

Run as `python -I fetch.py` (standard library only). It reads {"url", "header", "limit_bytes"}
from its standard input and prints {"status", "header", "body"} or {"error"}. No redirect is
followed and no proxy used, so nothing but the named origin is contacted.
"""

from __future__ import annotations

import http.client
import json
import sys
from urllib.parse import quote, urlsplit

TIMEOUT_S = 10  # for each read; the caller bounds the whole


def main() -> None:
    """Answer the order on standard input."""
    order = json.loads(sys.stdin.readline())
    try:
        said = fetch(order["url"], order["header"], order["limit_bytes"])
    except (OSError, ValueError, http.client.HTTPException) as error:
        said = {"error": str(error) or type(error).__name__}
    print(json.dumps(said))


def fetch(url: str, header: str, limit_bytes: int) -> dict[str, object]:
    """Return the status, one header and the beginning of the body. Raises OSError and others."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    # Browsers take every name under localhost for this machine; resolvers do not always.
    place = "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    link = kind(place, parts.port, timeout=TIMEOUT_S)
    asked = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    path = quote(asked, safe="!#$%&'()*+,/:;=?@[]~")  # what browsers send for other scripts
    try:
        link.request("GET", path, headers={"Host": parts.netloc, "User-Agent": "chimera"})
        answer = link.getresponse()
        told = answer.getheader(header) if header else ""
        body = answer.read(limit_bytes).decode(errors="replace")
        return {"status": answer.status, "header": told or "", "body": body}
    finally:
        link.close()


if __name__ == "__main__":
    main()
