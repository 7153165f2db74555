import pytest

from bookshop import catalogue

PAGES = ["/", "/books/", "/about/", "/shelves/gothic/", "/books/moby-dick/"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_answers(client, path):
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_a_page_asks_for_nothing_from_elsewhere(client, path):
    text = client.get(path).content.decode()
    assert "http://" not in text
    assert "https://" not in text


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_one_main_heading(client, path):
    assert client.get(path).content.decode().count("<h1") == 1


def test_the_front_page_shows_the_books_on_the_table(client):
    text = client.get("/").content.decode()
    assert all(f"/books/{book.slug}/" in text for book in catalogue.featured())


def test_the_shelves_show_every_book(client):
    text = client.get("/books/").content.decode()
    assert all(f"/books/{book.slug}/" in text for book in catalogue.books())


def test_a_shelf_shows_its_own_books_only(client):
    text = client.get("/shelves/gothic/").content.decode()
    assert "Dracula" in text
    assert "Moby-Dick" not in text


def test_a_book_shows_its_price_and_its_neighbours(client):
    text = client.get("/books/frankenstein/").content.decode()
    assert "£8.50" in text
    assert "/books/dracula/" in text


def test_the_navigation_marks_the_page(client):
    assert '<a href="/about/" aria-current="page">' in client.get("/about/").content.decode()


@pytest.mark.parametrize("path", ["/books/nothing/", "/shelves/nothing/", "/nothing/"])
def test_an_unknown_page_is_said_to_be_unknown(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Not on our shelves" in answer.content.decode()


def test_the_style_sheet_is_served(client):
    answer = client.get("/static/bookshop.css")
    assert answer["Content-Type"].startswith("text/css")
    assert b":root" in b"".join(answer.streaming_content)


def test_nothing_outside_the_static_folder_is_served(client):
    assert client.get("/static/../settings.py").status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "chimera-1.localhost"])
def test_a_host_on_this_machine_is_accepted(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


def test_any_other_host_is_refused(client):
    assert client.get("/", headers={"host": "shop.example"}).status_code == 400
