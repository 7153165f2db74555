"""How a site says which commit it runs."""

from __future__ import annotations

import pytest

from tasks.commits import CommitCheck, Source, is_told

SHA = "4f2a9c1e8b7d6053a1c2e4f60718293a4b5c6d7e"
OTHER = "9d8c7b6a5f4e3d2c1b0a9f8e7d6c5b4a39281706"


@pytest.mark.parametrize(
    ("text", "source", "name"),
    [
        ("header:X-Commit", Source.HEADER, "X-Commit"),
        (" path:/version.json ", Source.PATH, "/version.json"),
        ("command: ssh staging cat /srv/commit", Source.COMMAND, "ssh staging cat /srv/commit"),
    ],
)
def test_a_check_is_read(text, source, name):
    assert CommitCheck.parse(text) == CommitCheck(source, name)


NO_CHECKS = [
    *("", "header", "header:", "header:a b", "header:X\r\nY: z"),
    *("path:version", "path:/a b", "path://evil.example/v", "command:", "cookie:commit", "command"),
]


@pytest.mark.parametrize("text", NO_CHECKS)
def test_a_check_that_says_nothing_is_refused(text):
    with pytest.raises(ValueError, match="say how the site tells its commit"):
        CommitCheck.parse(text)


@pytest.mark.parametrize(
    "said",
    [
        SHA,
        SHA.upper() + "\n",
        SHA[:7],
        f'{{"commit": "{SHA[:12]}", "built": 20261122103000}}',
        f"shop {SHA}",
    ],
)
def test_a_site_that_names_the_commit_is_believed(said):
    assert is_told(SHA, said)


@pytest.mark.parametrize(
    "said",
    [
        "",
        OTHER,
        SHA[:6],
        SHA + "0",
        f"x{SHA}",
        f"now {SHA}, before {OTHER}",
        f"{SHA[:-1]}0",
        "<html>not found</html>",
        SHA[1:],
    ],
)
def test_one_that_names_another_or_several_is_not(said):
    assert not is_told(SHA, said)
