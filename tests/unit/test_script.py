"""A project's own deploy command: what it gets, how it ends, where it may deploy to."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.commits import CommitCheck
from tasks.workspace import script
from tasks.workspace.process import Log
from tasks.workspace.script import BadChangeError, CommandDeployer, DeployError, Release, Script

SHA = "4f2a9c1e8b7d6053a1c2e4f60718293a4b5c6d7e"
OLD = "9d8c7b6a5f4e3d2c1b0a9f8e7d6c5b4a39281706"
ORIGIN = "https://staging.shop.example"
FACTS = {"CHIMERA_TASK_ID": "chimera-1", "CHIMERA_FENCE": "7"}

Deploy = Callable[..., str]


@pytest.fixture
def deployer(tmp_path: Path) -> Iterator[CommandDeployer]:
    """Return a deployer with an empty folder and a minute of time."""
    folder = tmp_path / "folder"
    folder.mkdir()
    rules = Script("", "", CommitCheck.parse("header:X-Commit"), (ORIGIN,), "/health")
    log = Log(tmp_path / "log.txt")
    yield CommandDeployer(rules, folder, {}, log, lambda: 60.0, lambda: False)
    log.close()


@pytest.fixture
def deploy(deployer: CommandDeployer, tmp_path: Path) -> Deploy:
    """Return a function that deploys with a shell script of this text."""

    def call(text: str, url: str = "", origins: tuple[str, ...] = (ORIGIN,)) -> str:
        program = tmp_path / "deploy.sh"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        rules = replace(deployer.script, deploy_command=f"{program} {{tree}}", origins=origins)
        release = Release(SHA, FACTS, tmp_path / "tree", None, url)
        return replace(deployer, script=rules).deploy(release)

    return call


def test_a_command_is_told_what_it_deploys_and_nothing_of_ours(deploy, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_SERVICE", "swordfish")
    said = tmp_path / "said.json"
    ask = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))"
    deploy(f"""python3 -c '{ask}' "$1" > {said}""", url=f"{ORIGIN}/")
    words, folder, env = json.loads(said.read_text())
    assert words == [str(tmp_path / "tree")]
    assert folder == str(tmp_path / "folder")
    assert {name: value for name, value in env.items() if name.startswith("CHIMERA_")} == {
        **FACTS,
        "CHIMERA_COMMIT": SHA,
        "CHIMERA_TREE": str(tmp_path / "tree"),
        "CHIMERA_STAGING_URL": f"{ORIGIN}/",
        "CHIMERA_URL_FILE": str(tmp_path / "folder" / "url"),
    }
    assert set(env) <= {*FACTS, "PATH", "HOME", "LANG", "PWD", "SHLVL", "_", "LC_CTYPE"} | {
        name for name in env if name.startswith("CHIMERA_")
    }
    assert "swordfish" not in said.read_text()


def test_its_output_is_in_the_log_while_it_runs(deploy, tmp_path):
    log = tmp_path / "log.txt"
    deploy(f"echo uploading; until grep -q uploading {log}; do sleep 0.05; done", f"{ORIGIN}/")
    assert "uploading" in log.read_text()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("echo built; echo https://staging.shop.example/app; echo done", f"{ORIGIN}/app"),
        ("echo https://elsewhere.example/; echo https://staging.shop.example/", f"{ORIGIN}/"),
        ("echo https://staging.shop.example/1; echo https://elsewhere.example/", f"{ORIGIN}/1"),
        ('echo https://staging.shop.example/file > "$CHIMERA_URL_FILE"', f"{ORIGIN}/file"),
    ],
)
def test_a_command_reports_where_it_deployed_to(deploy, text, url):
    assert deploy(text) == url


def test_one_that_says_nothing_deployed_to_where_it_was_told(deploy):
    assert deploy("true", url=f"{ORIGIN}/asked") == f"{ORIGIN}/asked"


@pytest.mark.parametrize(
    ("text", "url", "told"),
    [
        ("true", "", "told no URL"),
        ("echo https://elsewhere.example/", "", "told no URL"),
        ('mkdir "$CHIMERA_URL_FILE"', "", "told no URL"),
        ('ln -s /etc/hostname "$CHIMERA_URL_FILE"', "", "told no URL"),
        ('echo https://elsewhere.example/ > "$CHIMERA_URL_FILE"', "", "not to https://staging"),
        ('echo nonsense > "$CHIMERA_URL_FILE"', f"{ORIGIN}/", "not to https://staging"),
        # Browsers go to evil.example here, whatever else reads it.
        (r"printf '%s\n' 'https://evil.example\@staging.shop.example/'", "", "told no URL"),
        ("echo https://user:word@staging.shop.example/", "", "told no URL"),
        ("echo https://staging.shop.example@evil.example/", "", "told no URL"),
        ("echo https://staging.shop.example./", "", "told no URL"),
        ("echo 'https://staging.shop.example/<b>'", "", "told no URL"),
        ("echo 'https://[::1]/'", "", "told no URL"),
        ("printf 'https://staging.shop.example/\\342\\200\\256\\n'", "", "told no URL"),
    ],
)
def test_one_that_deployed_to_nowhere_or_elsewhere_is_an_error(deploy, text, url, told):
    with pytest.raises(DeployError, match=told) as caught:
        deploy(text, url=url)
    assert caught.value.permanent


def test_a_command_that_blames_the_change_sends_it_back_with_what_it_said(deploy):
    with pytest.raises(BadChangeError, match=r"refuses the change:\nthe build fails"):
        deploy("echo the build fails; exit 65")


@pytest.mark.parametrize(
    ("text", "told", "permanent"),
    [
        ("echo no route; exit 1", "ended with code 1:\nno route", False),
        ("exit 75", "ended with code 75", False),
        ("exit 78", "ended with code 78", True),
        ("kill -KILL $$", "was ended by signal 9", False),
    ],
)
def test_every_other_failure_is_one_of_the_machinery(deploy, text, told, permanent):
    with pytest.raises(DeployError, match=told) as caught:
        deploy(text)
    assert caught.value.permanent is permanent


def test_a_program_that_is_not_there_is_told_by_its_name(deployer, tmp_path):
    rules = replace(deployer.script, deploy_command="/no/such/deploy")
    release = Release(SHA, FACTS, tmp_path, None, "")
    with pytest.raises(DeployError, match="/no/such/deploy is not a program") as caught:
        replace(deployer, script=rules).deploy(release)
    assert caught.value.permanent


def test_a_rollback_that_fails_is_told_and_changes_no_verdict(deployer, tmp_path):
    release = Release(SHA, FACTS, tmp_path, None, f"{ORIGIN}/")
    said = {
        line: replace(deployer, script=replace(deployer.script, rollback_command=line)).roll_back(
            release
        )
        for line in ("", "true", "sh -c 'echo no; exit 3'", "/no/such/rollback")
    }
    assert list(said.values()) == [
        "",
        "The rollback command was run.",
        "The rollback command ended with code 3: no",
        "The rollback command could not be run: /no/such/rollback is not a program that can be run",
    ]


def test_a_rollback_that_takes_too_long_leaves_time_to_tell_why_it_was_run(deployer, tmp_path):
    program = tmp_path / "undo.sh"
    program.write_text("#!/bin/sh\necho undoing\nexec sleep 60\n")
    program.chmod(0o755)
    rules = replace(deployer.script, rollback_command=str(program))
    release = Release(SHA, FACTS, tmp_path, None, f"{ORIGIN}/")
    slow = replace(deployer, script=rules, left_s=lambda: script.TELL_S + 0.5)
    assert slow.roll_back(release) == "The rollback command did not end in time: undoing"
    late = replace(slow, left_s=lambda: script.TELL_S)
    assert late.roll_back(release) == "There was no time left for the rollback command."


class Site(http.server.BaseHTTPRequestHandler):
    """Answers with what the test put into the class."""

    header, body, status, place = "", "", 200, ""

    def do_GET(self) -> None:
        self.send_response(self.status)
        if self.header:
            self.send_header("X-Commit", self.header)
        if self.place:
            self.send_header("Location", self.place)
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[tuple[type[Site], str]]:
    """Return a site whose answers can be chosen, and its address."""
    chosen = type("Chosen", (Site,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), chosen) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield chosen, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def checked_by(deployer: CommandDeployer, text: str) -> CommandDeployer:
    """Return it with another commit check."""
    return replace(deployer, script=replace(deployer.script, commit_check=CommitCheck.parse(text)))


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        ("header:X-Commit", {"header": SHA}),
        ("path:/version", {"body": f'{{"commit": "{SHA}"}}'}),
        (f"command:echo {SHA}", {}),
    ],
)
def test_a_site_that_runs_the_commit_says_so(deployer, site, check, answer):
    for name, value in answer.items():
        setattr(site[0], name, value)
    assert checked_by(deployer, check).wrong_commit(SHA, site[1]) == ""


@pytest.mark.parametrize(
    ("check", "answer", "told"),
    [
        ("header:X-Commit", {"header": OLD}, f"it says '{OLD}'"),
        ("header:X-Commit", {}, "it says 'nothing'"),
        ("path:/version", {"body": OLD}, f"it says '{OLD}'"),
        ("path:/version", {"body": SHA, "status": 404}, "/version answered 404"),
        ("path:/version", {"status": 302, "place": "http://127.0.0.1:1/"}, "answered 302"),
        (f"command:echo {OLD}", {}, f"it says '{OLD}'"),
        ("command:false", {}, "does not tell its commit"),
    ],
)
def test_one_that_runs_another_is_found_out(deployer, site, check, answer, told):
    for name, value in answer.items():
        setattr(site[0], name, value)
    assert told in checked_by(deployer, check).wrong_commit(SHA, site[1])


def test_a_check_that_prints_without_end_is_ended(deployer, site, monkeypatch):
    monkeypatch.setattr(script, "FETCH_TIMEOUT_S", 0.3)
    said = checked_by(deployer, f"command:yes {SHA}").wrong_commit(SHA, site[1])
    assert "does not tell its commit: yes did not end in time" in said
    assert len(said) < 1000


def test_a_page_may_have_a_name_in_any_script(deployer, site):
    site[0].header = SHA
    assert deployer.wrong_commit(SHA, f"{site[1]}größe?für=mich") == ""


def test_a_site_that_is_not_there_tells_no_commit(deployer):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/"
    assert "does not tell its commit" in deployer.wrong_commit(SHA, url)


def test_a_commit_that_shows_late_is_waited_for(deployer, site, monkeypatch):
    monkeypatch.setattr(script, "LOOK_EVERY_S", 0.05)
    asked = []

    def change() -> float:
        asked.append(1)
        site[0].header = SHA if len(asked) > 3 else OLD
        return 60.0

    replace(deployer, left_s=change).await_commit(SHA, site[1])
    assert site[0].header == SHA


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"header": OLD}, f"does not run {SHA[:10]}"),
        ({"header": SHA, "status": 500}, "answered 500"),
    ],
)
def test_an_older_commit_or_a_sick_site_is_not_waited_for_for_ever(
    deployer, site, monkeypatch, answer, told
):
    monkeypatch.setattr(script, "SETTLE_S", 0.3)
    monkeypatch.setattr(script, "LOOK_EVERY_S", 0.05)
    for name, value in answer.items():
        setattr(site[0], name, value)
    with pytest.raises(DeployError, match=told) as caught:
        deployer.await_commit(SHA, site[1])
    assert not caught.value.permanent


def test_a_site_that_never_ends_its_answer_is_given_up(deployer, monkeypatch):
    monkeypatch.setattr(script, "FETCH_TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()
        dripping = threading.Thread(target=_drip, args=(listener, ended))
        dripping.start()
        try:
            told = deployer.wrong_commit(SHA, f"http://127.0.0.1:{listener.getsockname()[1]}/")
        finally:
            ended.set()
            dripping.join(timeout=10)
    assert "no end after 1 s" in told


def _drip(listener: socket.socket, ended: threading.Event) -> None:
    line, _ = listener.accept()
    with line, contextlib.suppress(OSError):
        while not ended.wait(0.1):
            line.send(b"H")
