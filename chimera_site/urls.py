"""All routes of the site."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("tasks.api.urls")),
    path("", include("tasks.dashboard.urls")),
    path("admin/", admin.site.urls),
]

handler500 = "chimera_site.trouble.server_error"
