"""What an archive holds, and what is refused of one that somebody else wrote."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from tasks.workspace.archive import MANIFEST, ArchiveError, extract, writing

Entry = tuple[tarfile.TarInfo, bytes]


def anything(_: str) -> bool:
    return True


def entry(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> Entry:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    if kind != tarfile.REGTYPE:
        info.size = 0
    return info, content


def manifest(*entries: Entry, **changed: str) -> Entry:
    members = {
        info.name: {
            "sha256": changed.get(info.name, hashlib.sha256(content).hexdigest()),
            "bytes": len(content),
        }
        for info, content in entries
    }
    return entry(MANIFEST, json.dumps({"members": members}).encode())


def pack(file: Path, *entries: Entry) -> Path:
    with tarfile.open(file, "w:gz") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return file


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into" / "deep"
    folder.mkdir(parents=True)
    return folder


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_written_comes_back(tmp_path: Path, into: Path) -> None:
    odd = "a/" + os.fsdecode(b"n\xffl\ning: \xc3\xa4")
    source = tmp_path / "source"
    source.write_bytes(b"content")
    source.chmod(0o644)
    with writing(tmp_path / "x.tar.gz") as archive:
        assert archive.add("plain", source)
        assert archive.add(odd, source)
        archive.finish({"format": 1}, 0.0)
    found = extract(tmp_path / "x.tar.gz", into, anything)
    assert found["format"] == 1
    assert (into / "plain").read_bytes() == (into / odd).read_bytes() == b"content"
    assert {mode_of(into / "plain"), mode_of(tmp_path / "x.tar.gz")} == {0o600}
    assert mode_of(into / "a") == 0o700


def test_links_folders_and_missing_files_are_not_added(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    with writing(tmp_path / "x.tar.gz") as archive:
        for name in ("link", "pipe", ".", "nothing"):
            assert archive.add("x", tmp_path / name) is False


def test_a_file_that_grows_or_shrinks_meanwhile_is_as_long_as_its_header_says(
    tmp_path: Path, into: Path
) -> None:
    growing, shrinking = tmp_path / "growing", tmp_path / "shrinking"
    for path in (growing, shrinking):
        path.write_bytes(b"x" * 300_000)

    def moved(size_bytes: int) -> None:
        if size_bytes:
            with growing.open("ab") as file:
                file.write(b"y" * 1000)
            os.truncate(shrinking, 200_000)

    with writing(tmp_path / "x.tar.gz", moved) as archive:
        archive.add("growing", growing)
        os.truncate(shrinking, 300_000)
        archive.add("shrinking", shrinking)
        archive.finish({}, 0.0)
    extract(tmp_path / "x.tar.gz", into, anything)
    assert (into / "growing").read_bytes() == b"x" * 300_000
    assert (into / "shrinking").stat().st_size == 300_000


def test_an_archive_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), writing(tmp_path / "x.tar.gz"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_text("mine")
    with pytest.raises(FileExistsError), writing(tmp_path / "x.tar.gz") as archive:
        archive.finish({}, 0.0)
    assert (tmp_path / "x.tar.gz").read_text() == "mine"


@pytest.mark.parametrize(
    "bad",
    [
        entry("../outside"),
        entry("a/../../outside"),
        entry("/tmp/outside"),
        entry("./inside"),
        entry("a//b"),
        entry("link", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        entry("link", kind=tarfile.LNKTYPE, link="../outside"),
        entry("folder", kind=tarfile.DIRTYPE),
        entry("pipe", kind=tarfile.FIFOTYPE),
        entry("device", kind=tarfile.CHRTYPE),
    ],
    ids=lambda bad: f"{bad[0].name}-{bad[0].type.decode()}",
)
def test_members_that_are_no_plain_file_inside_are_refused(
    bad: Entry, tmp_path: Path, into: Path
) -> None:
    with pytest.raises(ArchiveError):
        extract(pack(tmp_path / "x", bad, manifest(bad)), into, anything)
    assert list(into.iterdir()) == []
    assert not (into.parent / "outside").exists()


def test_names_that_have_no_place_are_refused(tmp_path: Path, into: Path) -> None:
    good = entry("good")
    with pytest.raises(ArchiveError, match="'good', which has no place here"):
        extract(pack(tmp_path / "x", good, manifest(good)), into, lambda _: False)


def test_a_name_that_comes_twice_is_refused(tmp_path: Path, into: Path) -> None:
    one, other = entry("a"), entry("a", b"other")
    with pytest.raises(ArchiveError, match="twice"):
        extract(pack(tmp_path / "x", one, other, manifest(one)), into, anything)


def test_content_that_is_not_what_the_manifest_says_is_refused(tmp_path: Path, into: Path) -> None:
    good = entry("a")
    with pytest.raises(ArchiveError, match="'a' is not what the manifest says"):
        extract(pack(tmp_path / "x", good, manifest(good, a="0" * 64)), into, anything)


@pytest.mark.parametrize("listed", [True, False])
def test_a_member_too_many_or_too_few_is_refused(listed: bool, tmp_path: Path, into: Path) -> None:
    good, other = entry("a"), entry("b")
    entries = [good, manifest(good, other)] if listed else [good, other, manifest(good)]
    with pytest.raises(ArchiveError, match="'b' is not what"):
        extract(pack(tmp_path / "x", *entries), into, anything)


def test_without_a_manifest_it_is_not_whole(tmp_path: Path, into: Path) -> None:
    with pytest.raises(ArchiveError, match="not whole"):
        extract(pack(tmp_path / "x", entry("a")), into, anything)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"members": {"a": 1}}', b"\xff"])
def test_a_manifest_that_cannot_be_read_is_refused(
    content: bytes, tmp_path: Path, into: Path
) -> None:
    with pytest.raises(ArchiveError, match="manifest cannot be read"):
        extract(pack(tmp_path / "x", entry(MANIFEST, content)), into, anything)


@pytest.mark.parametrize("keep", [0, 10, 300, 1500])
def test_a_file_that_was_cut_short_is_refused(keep: int, tmp_path: Path, into: Path) -> None:
    good = entry("a", os.urandom(2000))
    whole = pack(tmp_path / "x", good, manifest(good)).read_bytes()
    (tmp_path / "cut").write_bytes(whole[:keep])
    with pytest.raises(ArchiveError):
        extract(tmp_path / "cut", into, anything)


def test_a_byte_that_changed_is_noticed(tmp_path: Path, into: Path) -> None:
    good = entry("a", os.urandom(2000))
    whole = bytearray(pack(tmp_path / "x", good, manifest(good)).read_bytes())
    whole[1500] ^= 1
    (tmp_path / "x").write_bytes(whole)
    with pytest.raises(ArchiveError):
        extract(tmp_path / "x", into, anything)
