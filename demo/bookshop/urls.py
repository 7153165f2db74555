"""Where the pages are."""

from django.conf import settings
from django.urls import path
from django.views.static import serve

from bookshop import views

urlpatterns = [
    path("", views.home, name="home"),
    path("books/", views.shelves, name="shelves"),
    path("books/<slug:slug>/", views.book, name="book"),
    path("shelves/<slug:slug>/", views.shelf, name="shelf"),
    path("about/", views.about, name="about"),
    path("static/<path:path>", serve, {"document_root": settings.STATIC_FOLDER}),
]

handler404 = views.not_found
