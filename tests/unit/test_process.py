"""Children have a deadline, a group of their own and bounded output."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks.workspace import process
from tasks.workspace.process import Command, Log, ProcessError

ROOT = Path(__file__).resolve().parents[2]
ENV = {"PATH": os.defpath}


def python(folder: Path, source: str, *arguments: str) -> Command:
    return Command((sys.executable, "-I", "-c", source, *arguments), ENV, folder)


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be reaped doesn't."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until_gone(pid: int) -> bool:
    limit = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < limit:
        time.sleep(0.01)
    return not is_alive(pid)


GRANDCHILD = """
import os, subprocess, sys
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)"
child = subprocess.Popen([sys.executable, "-I", "-c", code + "; time.sleep(600)"],
                         stdout=subprocess.PIPE if sys.argv[1] == "quiet" else None)
if child.stdout:
    child.stdout.readline()
print(f"pid={child.pid}", flush=True)
"""


def pid_in(text: str) -> int:
    return int(text.rpartition("pid=")[2].split()[0])


def test_a_child_that_ends_by_itself_is_ok_and_its_output_is_kept(tmp_path: Path) -> None:
    done = process.run(python(tmp_path, "print('out', flush=True); 1/0"), timeout_s=20)

    assert done.returncode == 1
    assert not done.ok
    assert done.output_tail.startswith("out\n")
    assert "ZeroDivisionError" in done.output_tail
    assert process.run(python(tmp_path, "pass"), timeout_s=20).ok


def test_the_deadline_ends_the_whole_group(tmp_path: Path) -> None:
    source = GRANDCHILD + "import time; time.sleep(600)"
    began = time.monotonic()

    done = process.run(python(tmp_path, source, "quiet"), timeout_s=1.5)

    assert done.timed_out
    assert not done.ok
    assert time.monotonic() - began < 10
    assert wait_until_gone(pid_in(done.output_tail))


def test_a_child_that_ignores_being_asked_is_killed(tmp_path: Path) -> None:
    source = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"

    done = process.run(python(tmp_path, source), timeout_s=0.5)

    assert done.timed_out
    assert done.returncode == -9


def test_the_deadline_holds_for_a_child_that_closed_its_output(tmp_path: Path) -> None:
    source = "import os, time; os.close(1); os.close(2); time.sleep(600)"
    began = time.monotonic()

    done = process.run(python(tmp_path, source), timeout_s=0.5)

    assert done.timed_out
    assert time.monotonic() - began < 10


def test_a_stop_is_seen_and_is_not_called_a_time_out(tmp_path: Path) -> None:
    stop = threading.Event()
    command = python(tmp_path, "import time; print('up', flush=True); time.sleep(600)")
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    began = time.monotonic()

    done = process.run(command, timeout_s=60, should_stop=stop.is_set)

    timer.join()
    assert done.stopped
    assert not done.timed_out
    assert not done.ok
    assert time.monotonic() - began < 10


def test_a_stop_that_raises_leaves_no_child_behind(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")

    def stop() -> bool:
        if "pid=" in (tmp_path / "log").read_text():
            raise RuntimeError("the database is down")
        return False

    source = "import os, time; print(f'pid={os.getpid()}', flush=True); time.sleep(600)"
    with pytest.raises(RuntimeError):
        process.run(python(tmp_path, source), timeout_s=60, log=log, should_stop=stop)

    log.close()
    assert not is_alive(pid_in((tmp_path / "log").read_text()))


@pytest.mark.parametrize("kind", ["silent", "chatty"])
def test_a_grandchild_that_holds_the_pipe_does_not_hang_run(tmp_path: Path, kind: str) -> None:
    action = "time.sleep(600)" if kind == "silent" else "print('x' * 999, flush=True)"
    inner = f"import time\nwhile True: {action}"
    source = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-I', '-c', {inner!r}],"
        " start_new_session=True, stdin=subprocess.DEVNULL)\n"
        "open('pid', 'w').write(str(child.pid))"
    )
    began = time.monotonic()

    done = process.run(python(tmp_path, source), timeout_s=60)

    assert done.ok
    assert time.monotonic() - began < 10
    pid = int((tmp_path / "pid").read_text())
    if kind == "silent":  # it escaped its group; the other one dies of the closed pipe
        os.kill(pid, 9)
    assert wait_until_gone(pid)


def test_what_a_child_left_in_its_group_is_ended(tmp_path: Path) -> None:
    done = process.run(python(tmp_path, GRANDCHILD, "quiet"), timeout_s=20)

    assert done.ok
    assert wait_until_gone(pid_in(done.output_tail))


def test_a_flood_is_bounded_in_the_log_and_in_memory(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", limit_bytes=100_000)
    source = "import sys\nfor _ in range(300): sys.stdout.write('a' * 100_000)\nprint('END')"

    done = process.run(python(tmp_path, source), timeout_s=60, log=log)

    log.close()
    kept = (tmp_path / "log").read_bytes()
    assert done.ok
    assert done.truncated
    assert kept.startswith(b"a" * 100_000)
    assert kept.count(b"[chimera] output limit reached") == 1
    assert len(kept) < 100_200
    assert len(done.output_tail) == process.TAIL_BYTES
    assert done.output_tail.endswith("aEND\n")


GIB_IN_ONE_LINE = "import os\nfor _ in range(1024): os.write(1, bytes(2 ** 20))"
FLOODED = """
import pathlib, resource, sys
from tasks.workspace.process import Command, Log, OUTPUT_LIMIT_BYTES, run

log = Log(pathlib.Path(sys.argv[1]) / "log")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
argv = (sys.executable, "-I", "-c", sys.argv[2])
done = run(Command(argv, {}, pathlib.Path("/")), timeout_s=600, log=log)
grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
log.close()
size = (pathlib.Path(sys.argv[1]) / "log").stat().st_size
print(done.ok, done.truncated, 0 <= size - OUTPUT_LIMIT_BYTES < 200, grown_kib)
"""


def test_a_gibibyte_without_a_line_end_costs_no_memory(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", FLOODED, str(tmp_path), GIB_IN_ONE_LINE]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    *said, grown_kib = done.stdout.split()
    assert said == ["True", "True", "True"], done.stderr
    assert int(grown_kib) < 20 * 1024


def test_a_full_log_is_marked_once_however_often_it_is_opened(tmp_path: Path) -> None:
    for _ in range(3):
        log = Log(tmp_path / "log", limit_bytes=10)
        log.write(b"0123456789abc")
        log.close()

    assert (tmp_path / "log").read_bytes().count(b"limit reached") == 1


def test_a_log_takes_lines_of_our_own_with_any_text(tmp_path: Path) -> None:
    log = Log(tmp_path / "deep" / "log")
    log.line("lone \ud800 surrogate")
    log.close()

    assert (tmp_path / "deep" / "log").read_bytes() == b"[chimera] lone ? surrogate\n"


def test_a_large_input_is_fed_without_a_deadlock(tmp_path: Path) -> None:
    source = (
        "import sys\nsys.stdout.write('b' * 3_000_000)\nsys.stdout.flush()\n"
        "print(len(sys.stdin.buffer.read()))"
    )

    done = process.run(python(tmp_path, source), timeout_s=60, stdin=b"c" * 3_000_000)

    assert done.ok
    assert done.output_tail.endswith("b3000000\n")


def test_a_child_that_never_reads_its_input_can_end(tmp_path: Path) -> None:
    assert process.run(python(tmp_path, "pass"), timeout_s=20, stdin=b"c" * 3_000_000).ok


@pytest.mark.parametrize("call", [process.run, process.output])
def test_a_missing_program_raises(tmp_path: Path, call: object) -> None:
    assert callable(call)
    with pytest.raises(ProcessError, match="no-such-program") as caught:
        call(Command(("no-such-program",), ENV, tmp_path), timeout_s=5)

    assert caught.value.returncode is None


def test_a_nul_in_an_argument_raises(tmp_path: Path) -> None:
    with pytest.raises(ProcessError):
        process.run(Command(("true", "a\0b"), ENV, tmp_path), timeout_s=5)


def test_the_environment_is_the_one_that_was_given(tmp_path: Path) -> None:
    command = Command(("env",), {**ENV, "ONE": "1"}, tmp_path)

    assert process.output(command, timeout_s=5).decode().split() == [
        f"PATH={os.defpath}",
        "ONE=1",
    ]


def test_output_is_standard_output_alone(tmp_path: Path) -> None:
    source = "import sys; print('no', file=sys.stderr); print(sys.stdin.read())"

    assert process.output(python(tmp_path, source), timeout_s=20, stdin=b"yes") == b"yes\n"


def test_a_failed_command_says_why_and_carries_its_code(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="because") as caught:
        process.output(
            python(tmp_path, "import sys; sys.stderr.write('because'); exit(7)"), timeout_s=20
        )

    assert caught.value.returncode == 7


def test_the_deadline_of_output_ends_grandchildren_that_hold_the_pipe(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    source = GRANDCHILD + f"open({str(pid_file)!r}, 'w').write(f'pid={{child.pid}}')"
    began = time.monotonic()

    with pytest.raises(ProcessError, match="no end after"):
        process.output(python(tmp_path, source, "loud"), timeout_s=1.5)

    assert time.monotonic() - began < 10
    assert wait_until_gone(pid_in(pid_file.read_text()))


def test_descriptors_are_passed_on_request(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    command = python(tmp_path, f"import os; os.write({writing}, b'here')")

    process.output(Command(command.argv, ENV, tmp_path, pass_fds=(writing,)), timeout_s=20)

    assert os.read(reading, 100) == b"here"
    os.close(reading)
    os.close(writing)


def test_a_reaped_child_is_not_ended_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = process.start(Command(("true",), ENV, tmp_path), stdin=-3, stdout=-3)
    child.wait(timeout=10)
    signalled: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: signalled.append(group))

    process.end_group(child)

    assert signalled == []


def test_arguments_are_split_without_a_shell_and_names_are_replaced() -> None:
    line = "serve --port {port} 'a b' $(rm) {unknown} {port}{port}"

    words = process.arguments(line, {"port": "80"})

    assert words == ("serve", "--port", "80", "a b", "$(rm)", "{unknown}", "8080")
    with pytest.raises(ValueError):
        process.arguments("an 'open quote", {})
