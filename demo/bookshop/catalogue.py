"""The books of the shop, read once from books.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Genre:
    """A shelf."""

    slug: str
    name: str
    note: str


@dataclass(frozen=True)
class Cover:
    """How a cover is drawn: a motif in three colours, and the title broken into lines."""

    motif: str
    ground: str
    shape: str
    text: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Book:
    """A book on a shelf."""

    slug: str
    title: str
    author: str
    year: int
    genre: Genre
    pages: int
    pence: int
    copies: int
    is_featured: bool
    blurb: str
    cover: Cover

    @property
    def price(self) -> str:
        """Return the price as it is shown, in pounds."""
        return f"£{self.pence / 100:.2f}"


@cache
def genres() -> tuple[Genre, ...]:
    """Return the shelves in the order of the shop."""
    return tuple(Genre(**entry) for entry in _content()["genres"])


@cache
def books() -> tuple[Book, ...]:
    """Return all books in the order of the file."""
    by_slug = {genre.slug: genre for genre in genres()}
    return tuple(
        Book(
            **{
                **entry,
                "genre": by_slug[entry["genre"]],
                "cover": Cover(**{**entry["cover"], "lines": tuple(entry["cover"]["lines"])}),
            }
        )
        for entry in _content()["books"]
    )


def featured() -> list[Book]:
    """Return the books that the front page shows."""
    return [book for book in books() if book.is_featured]


def on_shelf(genre: Genre) -> list[Book]:
    """Return the books of one shelf, by title."""
    return sorted((book for book in books() if book.genre == genre), key=lambda book: book.title)


def find_book(slug: str) -> Book | None:
    """Return the book, or None."""
    return next((book for book in books() if book.slug == slug), None)


def find_genre(slug: str) -> Genre | None:
    """Return the shelf, or None."""
    return next((genre for genre in genres() if genre.slug == slug), None)


@cache
def _content() -> dict[str, list[dict]]:
    return json.loads((Path(__file__).parent / "books.json").read_text(encoding="utf-8"))
