"""The pages of the shop."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from bookshop import catalogue


def shop(request: HttpRequest) -> dict[str, object]:
    """Give every template the shelves and the page's own path."""
    return {"genres": catalogue.genres(), "path": request.path}


def home(request: HttpRequest) -> HttpResponse:
    """Show the front page."""
    return render(request, "home.html", {"books": catalogue.featured()})


def shelves(request: HttpRequest) -> HttpResponse:
    """Show every book, shelf by shelf."""
    shown = [(genre, catalogue.on_shelf(genre)) for genre in catalogue.genres()]
    return render(request, "shelves.html", {"shelves": shown})


def shelf(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one shelf."""
    genre = catalogue.find_genre(slug)
    if genre is None:
        raise Http404
    shown = [(genre, catalogue.on_shelf(genre))]
    return render(request, "shelves.html", {"shelves": shown, "genre": genre})


def book(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one book and its neighbours on the shelf."""
    found = catalogue.find_book(slug)
    if found is None:
        raise Http404
    neighbours = [other for other in catalogue.on_shelf(found.genre) if other != found]
    return render(request, "book.html", {"book": found, "neighbours": neighbours})


def about(request: HttpRequest) -> HttpResponse:
    """Show who we are and when we are open."""
    return render(request, "about.html")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Show that there is no such page."""
    return render(request, "404.html", status=404)
