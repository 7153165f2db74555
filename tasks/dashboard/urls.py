"""Routes of the dashboard."""

from django.urls import URLPattern, URLResolver, include, path

from tasks.dashboard import views

pages: list[URLPattern | URLResolver] = [
    path("", views.task_list, name="list"),
    path("submit/", views.submit, name="submit"),
    path("tasks/<slug:task_id>/", views.task_detail, name="task"),
    path("tasks/<slug:task_id>/log/", views.log, name="log"),
    path("tasks/<slug:task_id>/log/<int:number>/", views.log_text, name="log-text"),
    path("tasks/<slug:task_id>/cancel/", views.cancel, name="cancel"),
    path("tasks/<slug:task_id>/retry/", views.retry, name="retry"),
]

urlpatterns: list[URLPattern | URLResolver] = [path("", include((pages, "dashboard")))]
