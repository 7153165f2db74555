"""Who has seen event n never finds a smaller one later, however many write at once."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from tasks.models import Event, Task

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS, EACH = 4, 25


def test_a_reader_among_writers_never_finds_an_event_before_its_last_one(
    submit: Callable[..., Task],
) -> None:
    task = submit()
    seen = list(Event.objects.after(0).values_list("seq", flat=True))
    start = threading.Barrier(WRITERS + 1)
    failures: list[BaseException] = []

    def write(number: int) -> None:
        dice = random.Random(number)
        try:
            start.wait(timeout=10)
            for _ in range(EACH):
                with transaction.atomic():
                    Event.objects.append(f"test.w{number}", task)
                    time.sleep(dice.choice([0, 0.001, 0.004]))  # others may overtake it, or not
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    start.wait(timeout=10)
    is_last = False
    while not is_last:
        is_last = not any(writer.is_alive() for writer in writers)  # asked before it reads
        seen += Event.objects.after(seen[-1]).values_list("seq", flat=True)
    assert failures == []
    assert seen == list(Event.objects.order_by("seq").values_list("seq", flat=True))
    assert len(seen) == 1 + WRITERS * EACH
    assert all(earlier < later for earlier, later in itertools.pairwise(seen))
