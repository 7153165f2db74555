"""Text that agents and sites wrote, on its way to a page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.dashboard.evidence import parse_diff
from tasks.dashboard.logs import LINE_BYTES, PIECE_BYTES, read_inside, read_piece, read_tail
from tasks.dashboard.plain import duration, plain, size
from tests.integration.dashboard_rows import DIFF


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil.example\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x1b\\after", "after"),
        ("\x9b31mred", "red"),
        ("\x1b(Bplain\x1b=", "plain"),
        ("50%\r100%\r\n", "50%\n100%\n"),
        ("a\0b\x07", "a[U+0000]b[U+0007]"),
        ("abc\u202edef\u2066", "abc[U+202E]def[U+2066]"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\ud800", "[U+D800]"),
        ("Grüße 日本 🎉", "Grüße 日本 🎉"),
    ],
)
def test_plain_text_hides_and_reorders_nothing(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_plain_text_is_cut_where_asked() -> None:
    assert plain("abcdef", 3) == "abc…"


def test_an_endless_escape_sequence_is_handled_in_bounded_time() -> None:
    assert plain("\x1b]" * 50_000) == ""
    assert len(plain("\x1b[" + "0;" * 500_000)) < 1_100_000


def test_spans_and_sizes_read_as_people_say_them() -> None:
    spans = [duration(seconds) for seconds in (-3, 8.9, 185, 7800, 97_200)]
    assert spans == ["0 s", "8 s", "3 min 05 s", "2 h 10 min", "1 d 3 h"]
    assert [size(each) for each in (812, 4200, 1_300_000)] == ["812 B", "4.2 kB", "1.3 MB"]


def test_pieces_of_a_log_join_to_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    lines = [f"line {number} Grüße" for number in range(9000)]
    path.write_text("\n".join(lines) + "\nthe end")
    offset, read = 0, []
    while True:
        piece = read_piece(path, tmp_path, offset)
        read += piece.lines
        offset = piece.next_offset
        if not piece.has_more:
            break
    assert read == lines
    assert piece.rest == "the end"


def test_an_endless_line_does_not_hold_up_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"x" * (3 * PIECE_BYTES + 5))
    offset = 0
    for _ in range(10):
        piece = read_piece(path, tmp_path, offset)
        offset = piece.next_offset
        if not piece.has_more:
            break
    assert offset + len(piece.rest) == path.stat().st_size
    assert len(piece.rest) < LINE_BYTES


def test_a_log_that_became_shorter_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("fresh\n")
    assert read_piece(path, tmp_path, 4000).lines == ("fresh",)


def test_the_tail_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {number:05d}\n" for number in range(100)))
    assert read_tail(path, tmp_path, 30).lines == ("line 00098", "line 00099")


def test_neither_links_nor_anything_outside_the_folder_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    (folder / "run").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret\n")
    (folder / "real").write_text("read me\n")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "inner").symlink_to(folder / "real")
    (folder / "way").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    assert read_piece(folder / "real", folder, 0).lines == ("read me",)
    for name in ("link", "inner", "way/secret", "../secret", "pipe", "run", "absent"):
        assert read_piece(folder / name, folder, 0).lines == ()
        assert read_inside(folder / name, folder, 100) is None


def test_a_diff_is_numbered_on_both_sides() -> None:
    lines = list(parse_diff(DIFF))
    files = [line.text for line in lines if line.kind == "file"]
    assert files == ["shop/templates/base.html", "shop/static/theme.js"]
    removed = [line for line in lines if line.kind == "del"]
    assert [(line.old, line.new) for line in removed] == [("6", "")]
    assert [line.new for line in lines if line.kind == "add"] == ["6", "7", "11", *"1234"]


def test_a_line_that_looks_like_a_header_stays_in_its_change() -> None:
    text = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n--- old\n+++ new\n"
    kinds = [line.kind for line in parse_diff(text)]
    assert kinds == ["file", "hunk", "del", "add"]
