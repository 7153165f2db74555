"""What people do meanwhile: they submit, cancel, look at the list, and follow the feed."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from tests.chaos.history import Cancel, Reading, Sight, Submission
from tests.chaos.stage import SITE, Stage
from tests.chaos.work import request

BROKEN = (OSError, http.client.HTTPException, ValueError)
OPEN = frozenset({"queued", "running"})


class Load:
    """Submits the tasks of each round, and knows which of them are open."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.submissions: list[Submission] = []
        self.cancels: list[Cancel] = []
        self._stage = stage
        self._dice = random.Random(f"load {seed}")
        self._last: dict[str, str] = {}  # status by task, as far as known

    def submit(self, count: int, *, over_s: float) -> None:
        """Have `count` more tasks accepted, spread over about so many seconds. Blocks."""
        accepted = 0
        while accepted < count:
            time.sleep(self._dice.uniform(0, 2 * over_s / count))
            asked = self._submit_one(len(self.submissions) + 1)
            self.submissions.append(asked)
            if asked.code == 201:
                accepted += 1
                self._last.setdefault(asked.task_id, "queued")

    def _submit_one(self, number: int) -> Submission:
        text = request(number, self._dice.uniform(0.05, 0.5), self._dice.choice((0, 0, 0, 1)))
        order = {"feature": text, "target_url": SITE, "priority": self._dice.randint(1, 10)}
        refused = 0
        while True:
            try:
                code, said = self._stage.ask("/api/tasks", order)
            except ConnectionRefusedError:
                refused += 1
                time.sleep(0.1)
                continue
            except BROKEN:
                return Submission(number, None, "", refused)
            return Submission(number, code, str(said.get("task_id", "")), refused)

    def saw(self, task_id: str, status: str) -> None:
        """Note how a task stands."""
        self._last[task_id] = status

    def pick_open(self, pick: float) -> str:
        """Return one of the tasks that may be open; "" if there is none."""
        ids = sorted(task_id for task_id, status in dict(self._last).items() if status in OPEN)
        return ids[int(pick * len(ids)) % len(ids)] if ids else ""

    def count_open(self) -> int:
        """Return how many tasks are open, as far as known."""
        return sum(status in OPEN for status in list(self._last.values()))

    def cancel(self, task_id: str) -> int | None:
        """Ask for the end of a task; return the code of the answer, None if it never came."""
        while True:
            try:
                code: int | None = self._stage.ask(f"/api/tasks/{task_id}/cancel", {})[0]
            except ConnectionRefusedError:
                time.sleep(0.1)
                continue
            except BROKEN:
                code = None
            self.cancels.append(Cancel(task_id, code))
            return code


class Watcher(threading.Thread):
    """Asks for the newest tasks, and notes each change."""

    def __init__(self, stage: Stage, load: Load) -> None:
        super().__init__(daemon=True)
        self.sights: list[Sight] = []
        self._stage = stage
        self._load = load
        self._known: dict[str, tuple[str, str]] = {}
        self.closing = threading.Event()

    def run(self) -> None:
        """Look, four times a second."""
        while not self.closing.wait(0.25):
            with contextlib.suppress(*BROKEN):
                code, said = self._stage.ask("/api/tasks?page_size=100")
                for task in said["results"] if code == 200 else ():
                    self._note(task["task_id"], task["status"], task["phase"])

    def _note(self, task_id: str, status: str, phase: str) -> None:
        if self._known.get(task_id) != (status, phase):
            self._known[task_id] = (status, phase)
            self._load.saw(task_id, status)
            self.sights.append(Sight(time.time(), task_id, status, phase))


class Reader(threading.Thread):
    """Follows the feed from its beginning; whenever the socket is gone it takes it up again.

    With `stays_s` it hangs up by itself after about so many seconds, again and again.
    """

    def __init__(self, stage: Stage, reader: str, stays_s: float = float("inf")) -> None:
        super().__init__(daemon=True)
        self.readings: list[Reading] = []
        self.connections = 0
        self.closing = threading.Event()
        self.seq = 0
        self._stage = stage
        self.reader = reader
        self._stays_s = stays_s

    def run(self) -> None:
        """Connect, read, and again."""
        port = self._stage.port
        while not self.closing.wait(0.1):
            with contextlib.suppress(*BROKEN, WebSocketException):
                address, origin = f"ws://localhost:{port}/ws/feed/", f"http://localhost:{port}"
                with connect(address, origin=origin, open_timeout=5, proxy=None) as socket:  # type: ignore[arg-type]
                    self.connections += 1
                    self._read(socket)

    def _read(self, socket: ClientConnection) -> None:
        until = time.monotonic() + self._stays_s
        socket.send(json.dumps({"after": self.seq, "task": None}))
        while time.monotonic() < until and not self.closing.is_set():
            try:
                message = json.loads(socket.recv(timeout=0.5))
            except TimeoutError:
                continue
            self._take(message)
            socket.send(json.dumps({"seen": message["n"]}))

    def _take(self, message: dict) -> None:  # type: ignore[type-arg]
        events = message.get("events", [])
        is_resync = message["type"] == "resync"
        for seq in [message["seq"]] if is_resync else [event["seq"] for event in events]:
            self.readings.append(Reading(self.reader, self.connections, seq, is_resync))
            self.seq = max(self.seq, seq)
