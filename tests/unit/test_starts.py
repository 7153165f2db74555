"""What a phase remembers of the agent that it started."""

from __future__ import annotations

import pytest

from tasks.agents.base import AgentError
from tasks.outcome import AgentStart
from tasks.phases.base import InterruptedRunError, OutOfTimeError
from tasks.phases.starts import Starts


def after(*errors: Exception | None) -> AgentStart | None:
    """Return what is remembered of blocks that ended so, one after the other."""
    starts = Starts()
    for error in errors:
        try:
            with starts.of("command:./coder"):
                if error is not None:
                    raise error
        except type(error or ValueError()):
            pass
    return starts.last


def test_nothing_started_is_nothing_to_remember() -> None:
    assert after() is None


def test_an_agent_that_did_its_work_has_no_failure() -> None:
    assert after(None) == AgentStart("command:./coder")


@pytest.mark.parametrize("error", [AgentError("ended with code 1"), OSError("ended with code 1")])
def test_an_agent_that_failed_is_remembered_with_its_words(error: Exception) -> None:
    assert after(error) == AgentStart("command:./coder", "ended with code 1")


def test_a_failure_without_words_is_a_failure_too() -> None:
    assert after(RuntimeError()) == AgentStart("command:./coder", "RuntimeError")


def test_an_agent_that_declines_a_request_is_well() -> None:
    refusal = AgentError("No playbook covers this.", permanent=True, is_answer=True)
    assert after(refusal) == AgentStart("command:./coder")


def test_an_answer_that_cannot_be_read_is_a_failure_after_all() -> None:
    assert after(None, AgentError("no verdict")) == AgentStart("command:./coder", "no verdict")


@pytest.mark.parametrize("error", [InterruptedRunError(), OutOfTimeError()])
def test_what_we_cut_short_says_nothing_of_the_agent(error: Exception) -> None:
    assert after(error) is None
