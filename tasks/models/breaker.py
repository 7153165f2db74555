"""The breaker of one agent: after five starts in a row that failed it is paused for a while."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import models, transaction
from django.db.models import F, Q, QuerySet

from tasks.lifecycle import OPEN, Hold, Phase, Status
from tasks.models.event import Event
from tasks.models.nudge import nudge
from tasks.outcome import AgentStart

if TYPE_CHECKING:
    from tasks.models.task import Task

FAILURES = 5  # in a row
PAUSE_S, LONGEST_PAUSE_S = 300, 3600
ROLE_IN: dict[str, str] = {
    Phase.E2E_TEST_GENERATION: "author",
    Phase.CODE_IMPLEMENTATION: "coder",
    Phase.GUARDIAN_REVIEW: "reviewer",
}


def pause_s(number: int) -> int:
    """Return how long the `number`-th pause in a row lasts: five minutes, doubled up to an hour."""
    return int(min(PAUSE_S * 2 ** min(number - 1, 10), LONGEST_PAUSE_S))


def agent_of(task: Task) -> str:
    """Return the agent that the task's phase starts, as its project names it; "" for none."""
    return str(getattr(task.project, ROLE_IN[task.phase])) if task.phase in ROLE_IN else ""


@dataclass(frozen=True)
class Noted:
    """What a start has changed: the breaker if its agent is paused now, and what is told of it."""

    paused: Breaker | None = None
    kind: str = ""  # of an event
    agent: str = ""

    def events(self) -> list[Event]:
        """Return the unsaved event, if there is one."""
        if not self.kind:
            return []
        until = self.paused.until if self.paused else ""
        reason = self.paused.reason if self.paused else ""
        return [Event.about(self.kind, agent=self.agent, until=until, reason=reason)]


class BreakerQuerySet(models.QuerySet["Breaker"]):
    """Noting how starts went, and who may start; each write names the state that it expects."""

    def of(self, agent: str) -> BreakerQuerySet:
        """Return the breaker of an agent, if it ever failed."""
        return self.filter(digest=digest_of(agent))

    def paused(self) -> BreakerQuerySet:
        """Return those whose agents may not be started, but for a trial."""
        return self.filter(paused_until__isnull=False)

    def stopping(self, task: Task, now: datetime) -> Breaker | None:
        """Return what keeps the agent of the task's phase from being started; None if nothing.

        After the pause one task gets through: it is the trial, until it is known how that went.
        The row stays locked, so that a task can't begin to wait while its agent is let go.
        """
        agent = agent_of(task)
        if not agent:
            return None
        # Not the full lock: whoever makes a task wait needs the key at its commit, with the
        # turnstile of events in hand, which we may need next.
        breaker = self.of(agent).paused().select_for_update(no_key=True).order_by().first()
        if breaker is None or (breaker.is_over(now) and breaker.try_with(task)):
            return None
        return breaker

    def note(self, start: AgentStart, task: Task, now: datetime) -> Noted:
        """Note how a start went; the events are for the end of the transaction."""
        return self._failed(start, task, now) if start.failure else self._worked(start.agent)

    def _failed(self, start: AgentStart, task: Task, now: datetime) -> Noted:
        names = {"agent": start.agent}
        breaker, _ = self.get_or_create(digest=digest_of(start.agent), defaults=names)
        own = self.filter(pk=breaker.pk)
        if own.filter(paused_until=None).update(failures=F("failures") + 1, reason=start.failure):
            last = own.filter(paused_until=None, failures__gte=FAILURES)
            opened = {"pauses": 1, "trial": None, "tried": task}
            is_new = last.update(paused_until=_until(now, 1), **opened) == 1
        else:  # a start that began before the pause changes nothing, the trial prolongs it
            breaker.refresh_from_db()
            number = breaker.pauses + 1
            trial = own.filter(trial=task, pauses=breaker.pauses)
            columns = {"pauses": number, "trial": None, "tried": task, "reason": start.failure}
            is_new = trial.update(paused_until=_until(now, number), **columns) == 1
        paused = own.paused().first()
        return Noted(paused, "agent.paused" if is_new else "", start.agent)

    def _worked(self, agent: str) -> Noted:
        """Close the breaker: the agent works, as the trial or an older start has shown."""
        breaker = self.of(agent).filter(failures__gt=0).first()
        if breaker is None:
            return Noted()
        changed = self.filter(pk=breaker.pk, failures__gt=0).update(
            failures=0, pauses=0, paused_until=None, trial=None, tried=None, reason=""
        )
        if changed != 1 or breaker.paused_until is None:
            return Noted()
        breaker.release()
        return Noted(None, "agent.resumed", agent)

    def release_due(self, now: datetime) -> None:
        """Let the best task of each agent try whose pause is over; call it each second.

        Tasks whose project has another agent by now go on at once.
        """
        if not self.filter(waiting__hold=Hold.AGENT).exists():
            return
        for breaker in self.paused().filter(waiting__hold=Hold.AGENT).distinct():
            others = breaker.held().exclude(_needs(breaker.agent))
            if others.exists():  # no write each second, nor a lock
                breaker.let_go(
                    breaker.held().filter(pk__in=list(others.values_list("pk", flat=True)))
                )
            if breaker.is_over(now) and not breaker.is_tried():
                with transaction.atomic(using=self.db):
                    breaker.release_trial()
        for breaker in self.filter(paused_until=None, waiting__hold=Hold.AGENT).distinct():
            breaker.release()  # those that a killed process, or an outage, left waiting


class Breaker(models.Model):
    """Whether an agent may be started: yes, not before `paused_until`, or then by `trial` only.

    A trial is over when its row says that the task does something else, so nothing has to be
    given back.
    """

    digest = models.CharField(max_length=64, unique=True, help_text="of the name, which is long")
    agent = models.CharField(max_length=1000)
    failures = models.PositiveIntegerField(default=0, help_text="in a row")
    pauses = models.PositiveIntegerField(default=0, help_text="in a row")
    paused_until = models.DateTimeField(null=True, blank=True)
    trial = models.ForeignKey("tasks.Task", null=True, on_delete=models.SET_NULL, related_name="+")
    tried = models.ForeignKey("tasks.Task", null=True, on_delete=models.SET_NULL, related_name="+")
    reason = models.TextField(blank=True, default="", help_text="how the last start failed")

    objects = BreakerQuerySet.as_manager()

    def __str__(self) -> str:
        return self.agent

    @property
    def until(self) -> str:
        """Return when the pause is over, in words for people."""
        return f"{self.paused_until:%Y-%m-%d %H:%M} UTC"

    @property
    def why_wait(self) -> str:
        """Say why a task that needs the agent waits."""
        said = self.reason.strip()[:500]
        return f"The agent {self.agent} is paused until {self.until}. Its last start failed: {said}"

    def is_over(self, now: datetime) -> bool:
        """Say whether the pause is over, so that one task may try."""
        return self.paused_until is not None and self.paused_until <= now

    def try_with(self, task: Task) -> bool:
        """Make `task` the trial; False while another one is, or if another one was faster."""
        if self.trial_id == task.pk:
            return True
        if self.is_tried():
            return False
        same = Breaker.objects.filter(
            pk=self.pk, paused_until=self.paused_until, trial=self.trial_id
        )
        return same.update(trial=task) == 1

    def is_tried(self) -> bool:
        """Say whether the trial is still on its way to a start of this agent."""
        trial = self.trial
        is_on_its_way = trial is not None and trial.status in OPEN and not trial.hold
        return trial is not None and is_on_its_way and agent_of(trial) == self.agent

    def release_trial(self) -> bool:
        """Let the best waiting task try, rather another one than the last time."""
        best = self.held().order_by("rank", "id")
        others = best.exclude(pk=self.tried_id) if self.tried_id else best
        task = others.first() or best.first()
        if task is None or not self.try_with(task):
            return False
        return self.let_go(self.held().filter(pk=task.pk)) == 1

    def release(self) -> int:
        """Queue all that wait for the agent; return how many."""
        return self.let_go(self.held())

    def held(self) -> QuerySet[Task]:
        """Return the tasks that wait for the agent."""
        return self.waiting.filter(hold=Hold.AGENT, status=Status.QUEUED)

    def let_go(self, tasks: QuerySet[Task]) -> int:
        """Queue such tasks; return how many."""
        number = tasks.update(hold=Hold.NONE, paused_agent=None, reason="")
        if number:
            nudge(tasks.db)
        return number


def digest_of(agent: str) -> str:
    """Return a key for an agent's name, which is too long for an index of PostgreSQL."""
    return hashlib.sha256(agent.encode()).hexdigest()


def _until(now: datetime, number: int) -> datetime:
    return now + timedelta(seconds=pause_s(number))


def _needs(agent: str) -> Q:
    """Return what holds for tasks whose phase starts the agent."""
    needs = Q()
    for phase, role in ROLE_IN.items():
        needs |= Q(phase=phase, **{f"project__{role}": agent})
    return needs
