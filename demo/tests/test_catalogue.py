import pytest

from bookshop import catalogue


def test_no_two_books_share_an_address():
    slugs = [book.slug for book in catalogue.books()]
    assert len(slugs) == len(set(slugs)) >= 12


def test_no_shelf_is_empty():
    assert all(catalogue.on_shelf(genre) for genre in catalogue.genres())


def test_a_shelf_is_sorted_by_title():
    novels = catalogue.on_shelf(catalogue.find_genre("novels"))
    titles = [book.title for book in novels]
    assert titles == ["Jane Eyre", "Middlemarch", "Pride and Prejudice"]


def test_the_table_holds_a_row_of_books():
    assert len(catalogue.featured()) == 6


def test_a_price_is_shown_in_pounds_and_pence():
    assert catalogue.find_book("middlemarch").price == "£12.50"


@pytest.mark.parametrize("book", catalogue.books(), ids=lambda book: book.slug)
def test_the_cover_carries_the_title(book):
    drawn = "".join(book.cover.lines)
    said = book.title.replace(" and ", "&").replace("'", "’")
    letters = [c for c in said if c.isalnum()]
    assert [c for c in drawn if c.isalnum()] == letters


def test_an_unknown_book_is_none():
    assert catalogue.find_book("nothing") is None
