"""Fetching: what is asked for, by whom, and what goes wrong."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import pytest

from tasks.workspace import plumbing
from tasks.workspace.git import GitError, Repository, branch_ref, checked_url, checkpoint_ref
from tests.unit.git_samples import commit_all, fetch, git, make_origin, write


def test_the_head_of_a_branch_is_the_one_last_fetched(tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "origin")
    repository = fetch(tmp_path, origin)
    first = repository.head("main")
    write(origin, {"app.py": b"print('new')\n"})
    commit_all(origin)

    assert first == repository.head("main")
    assert fetch(tmp_path, origin).head("main") == git(origin, "rev-parse", "HEAD") != first


def test_a_file_url_and_a_bare_repository_are_fetched_too(tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "an origin")
    git(tmp_path, "clone", "-q", "--bare", str(origin), "bare repository.git")
    head = git(origin, "rev-parse", "HEAD")

    assert fetch(tmp_path, tmp_path / "bare repository.git").head("main") == head
    assert fetch(tmp_path / "2", f"file://{tmp_path}/an%20origin").head("main") == head


def test_branches_that_are_gone_go_and_refs_of_tasks_stay(tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "origin")
    git(origin, "branch", "old")
    repository = fetch(tmp_path, origin)
    base = repository.head("old")
    kept = [branch_ref("chimera-1"), checkpoint_ref("chimera-1", 1)]
    for name in kept:
        repository.set_ref(name, base, "")
    git(origin, "branch", "-D", "old")
    git(origin, "branch", "old/deeper")  # takes the place of what it would collide with

    fetch(tmp_path, origin)

    with pytest.raises(GitError, match="there is: main, old/deeper"):
        repository.head("old")
    assert [repository.ref(name) for name in kept] == [base, base]


def test_an_unknown_branch_is_an_error_that_names_the_known(tmp_path: Path) -> None:
    repository = fetch(tmp_path, make_origin(tmp_path / "origin"))

    for name in ["trunk", "", "-d", "../main", "refs/remotes/origin/main"]:
        with pytest.raises(GitError, match="there is: main") as caught:
            repository.head(name)
        assert caught.value.permanent


def test_a_repository_without_a_commit_is_a_permanent_error(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "origin")

    with pytest.raises(GitError, match="no commit yet") as caught:
        fetch(tmp_path, tmp_path / "origin").head("main")

    assert caught.value.permanent


def test_a_folder_that_is_not_there_is_a_permanent_error(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="there is nothing at") as caught:
        fetch(tmp_path, tmp_path / "nowhere")

    assert caught.value.permanent


def test_a_folder_that_is_not_git_is_a_permanent_error(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()

    with pytest.raises(GitError, match="not appear to be a git repository") as caught:
        fetch(tmp_path, tmp_path / "plain")

    assert caught.value.permanent


def test_a_server_that_does_not_answer_is_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(GitError) as caught:
        fetch(tmp_path, "http://ada:s3cret@127.0.0.1:1/shop.git")

    assert not caught.value.permanent
    assert "s3cret" not in str(caught.value)


def test_a_fetch_that_failed_can_be_repeated(tmp_path: Path) -> None:
    with pytest.raises(GitError):
        fetch(tmp_path, "http://127.0.0.1:1/shop.git")

    assert fetch(tmp_path, make_origin(tmp_path / "origin")).head("main")


GOOD_URLS = [
    "/srv/a b/shop.git",
    "file:///srv/shop.git",
    "https://example.org/shop.git",
    "https://ada:token@example.org:8443/shop.git",
    "http://[::1]:3000/shop",
    "ssh://git@example.org:22/~/shop.git",
    "git@example.org:team/shop.git",
]
BAD_URLS = [
    "",
    "shop.git",
    "./shop.git",
    "-oProxyCommand=touch oracle",
    "--upload-pack=touch oracle",
    "ext::sh -c touch% oracle",
    "fd::17",
    "file://host/path",
    "ftp://example.org/shop",
    "git://example.org/shop",
    "https://-oProxyCommand=x/shop",
    "ssh://-oProxyCommand=touch%20oracle/x",
    "ssh://git@-oProxyCommand=x/x",
    "git@-oProxyCommand=x:x",
    "-x@example.org:x",
    "git@example.org:-x",
    "git@example.org::x",
    "git@example.org:a\nb",
    "/srv/a\nb",
    "/srv/a\0b",
    "https://example.org/a b",
    "https://",
    "https://exa\u202emple.org\n",
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_an_address_of_a_known_kind_is_taken(url: str) -> None:
    assert checked_url(url) == url


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_address_that_git_may_misread_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(GitError, match="is not the address of a repository") as caught:
        fetch(tmp_path, url)

    assert caught.value.permanent
    assert list(tmp_path.iterdir()) == []


def test_even_unchecked_a_strange_transport_runs_nothing(tmp_path: Path) -> None:
    repository = fetch(tmp_path, make_origin(tmp_path / "origin"))
    oracle = tmp_path / "oracle"
    url = f"ext::touch {oracle}"

    with pytest.raises(GitError):
        plumbing.call(plumbing.command(repository.path, "fetch", "--", url))

    assert not oracle.exists()


def test_a_poisoned_origin_runs_nothing(tmp_path: Path) -> None:
    origin, oracle = make_origin(tmp_path / "origin"), tmp_path / "oracle"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {oracle}\n")
    script.chmod(0o755)
    for key in ["uploadpack.packObjectsHook", "core.fsmonitor", "core.sshCommand", "core.pager"]:
        git(origin, "config", key, str(script))
    for name in ["post-checkout", "pre-auto-gc", "reference-transaction", "post-update"]:
        shutil.copy(script, origin / ".git" / "hooks" / name)

    repository = fetch(tmp_path, origin)

    assert repository.head("main")
    assert not oracle.exists()


def test_an_origin_of_another_user_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = make_origin(tmp_path / 'an "odd" origin')
    monkeypatch.setitem(plumbing.ENVIRONMENT, "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")

    assert fetch(tmp_path, origin).head("main") == git(origin, "rev-parse", "HEAD")


def _fetch_in_a_process(folder: Path, origin: Path, barrier: object, answers: object) -> None:
    barrier.wait(30)  # type: ignore[attr-defined]
    try:
        answers.put(fetch(folder, origin).head("main"))  # type: ignore[attr-defined]
    except Exception as error:  # the test shows it
        answers.put(repr(error))  # type: ignore[attr-defined]


def test_processes_that_clone_at_once_all_get_the_head(tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "origin")
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(3), spawn.Queue()
    children = [
        spawn.Process(target=_fetch_in_a_process, args=(tmp_path, origin, barrier, answers))
        for _ in range(3)
    ]
    for child in children:
        child.start()

    heads = {answers.get(timeout=60) for _ in children}

    for child in children:
        child.join(timeout=30)
    answers.close()
    assert heads == {git(origin, "rev-parse", "HEAD")}


def test_a_caller_waits_for_the_lock_no_longer_than_it_may(tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "origin")

    with (
        plumbing.locked(tmp_path / "shop.git", 5),
        pytest.raises(GitError, match="was locked") as caught,
    ):
        Repository.clone_or_fetch(tmp_path / "shop.git", str(origin), timeout_s=0.2)

    assert not caught.value.permanent


def test_locks_that_a_killed_fetch_left_are_no_obstacle(tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "origin")
    repository = fetch(tmp_path, origin)
    commit_all(origin)
    for name in ["refs/remotes/origin/main.lock", "packed-refs.lock"]:
        (repository.path / name).touch()

    assert fetch(tmp_path, origin).head("main") == git(origin, "rev-parse", "HEAD")


def test_a_clone_that_was_killed_half_way_is_finished(tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "origin")
    repository = fetch(tmp_path, origin)
    for name in ["HEAD", "info/attributes", "config"]:
        (repository.path / name).unlink()

    assert fetch(tmp_path, origin).head("main") == git(origin, "rev-parse", "HEAD")
