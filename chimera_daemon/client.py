"""The client for Chimera's API."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx2

from chimera_daemon.errors import Problem, UnreachableError, WaitTimeoutError, error_for
from chimera_daemon.values import Health, PhaseRun, Task

DEFAULT_URL = "http://localhost:8000"
REQUEST_LIMIT_S = 30.0
POLL_S = 0.5


class ChimeraClient:
    """Talk to a Chimera server. Calls block; one client may be shared by threads.

    Every call raises UnreachableError where nothing answers, and a ProblemError that carries
    the server's own account where it says no.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = REQUEST_LIMIT_S,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx2.Client(
            base_url=self.url,
            timeout=timeout_s,
            transport=transport,
            # A proxy of the environment is for other hosts, never for this machine.
            trust_env=not _is_loopback(self.url),
        )

    def __enter__(self) -> ChimeraClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def submit_task(
        self,
        *,
        feature: str,
        target_url: str,
        priority: int | None = None,
        staging_url: str | None = None,
        project: str | None = None,
    ) -> Task:
        """Queue a feature request and return it as queued; once this returns it is safe."""
        wanted = {
            "feature": feature,
            "target_url": target_url,
            "priority": priority,
            "staging_url": staging_url,
            "project": project,
        }
        body = {name: value for name, value in wanted.items() if value is not None}
        return self._task("POST", "/api/tasks", json=body)

    def get_task(self, task_id: str) -> Task:
        """Return how a task stands now."""
        return self._task("GET", _path(task_id))

    def list_tasks(self, *, status: str | None = None, limit: int = 50) -> list[Task]:
        """Return at most `limit` tasks, the newest first."""
        wanted = {"page_size": str(min(limit, 200))} | ({"status": status} if status else {})
        query: str | None = urlencode(wanted)
        tasks: list[Task] = []
        while query is not None and len(tasks) < limit:
            page = self._json("GET", f"/api/tasks?{query}")
            tasks += [self._parse(item) for item in page.get("results", ())]
            query = _query_of(page.get("next"))
        return tasks[:limit]

    def wait(self, task_id: str, timeout_s: float | None = None, poll_s: float = POLL_S) -> Task:
        """Return the task once it has ended. Raises WaitTimeoutError after `timeout_s`."""
        limit = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            task = self.get_task(task_id)
            if task.is_finished:
                return task
            if limit is not None and time.monotonic() >= limit:
                raise WaitTimeoutError(
                    f"{task_id} is {task.status} in {task.phase} after {timeout_s:.0f} s; "
                    "it goes on without you"
                )
            time.sleep(poll_s)

    def cancel(self, task_id: str) -> Task:
        """End a task now and return it. Raises ConflictError if it has ended already."""
        return self._task("POST", f"{_path(task_id)}/cancel")

    def retry(self, task_id: str) -> Task:
        """Queue a failed or cancelled task again, where it stopped, and return it."""
        return self._task("POST", f"{_path(task_id)}/retry")

    def phases(self, task_id: str) -> list[PhaseRun]:
        """Return every try at every phase so far, the oldest first."""
        page = self._json("GET", f"{_path(task_id)}/phases")
        return [PhaseRun.from_json(item) for item in page.get("phases", ())]

    def health(self) -> Health:
        """Return how the factory is; an unhealthy one is an answer too, not an error."""
        response = self._request("GET", "/health")
        try:
            return Health.from_json(response.json(), response.status_code)
        except (ValueError, KeyError, TypeError) as error:
            raise UnreachableError(f"What answers at {self.url} is not Chimera.") from error

    def _task(self, method: str, path: str, **options: Any) -> Task:
        return self._parse(self._json(method, path, **options))

    def _parse(self, data: Mapping[str, Any]) -> Task:
        try:
            return Task.from_json(data)
        except (KeyError, ValueError, TypeError) as error:
            raise UnreachableError(f"What answers at {self.url} is not Chimera.") from error

    def _json(self, method: str, path: str, **options: Any) -> Mapping[str, Any]:
        answer = self._send(method, path, **options)
        if not isinstance(answer, dict):
            raise UnreachableError(f"What answers at {self.url} is not Chimera.")
        return answer

    def _send(self, method: str, path: str, **options: Any) -> Any:
        response = self._request(method, path, **options)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.is_success and answer is not None:
            return answer
        document = answer if isinstance(answer, dict) else {}
        if response.is_success or not document:
            detail = f"{self.url}{path} answered {response.status_code} without saying why."
            document = {"title": response.reason_phrase, "detail": detail}
        raise error_for(Problem.from_json(response.status_code, document))

    def _request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        if method != "GET" and "json" not in options:
            options["json"] = {}  # writes are JSON only, even where there is nothing to say
        try:
            return self._http.request(method, path, **options)
        except httpx2.ConnectError as error:
            raise UnreachableError(
                f"Nothing answers at {self.url}. Is Chimera running? Start it with: make run"
            ) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise UnreachableError(f"{self.url}: {error or type(error).__name__}") from error


def _path(task_id: str) -> str:
    return f"/api/tasks/{quote(task_id, safe='')}"


def _query_of(link: Any) -> str | None:
    """Return the query of a link to the next page: the host is always the one we know."""
    return urlsplit(str(link)).query if link else None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
