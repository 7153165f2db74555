"""The one Django application of Chimera."""

from django.apps import AppConfig


class TasksConfig(AppConfig):
    """Models, faces and engine of the factory."""

    name = "tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from tasks import checks  # noqa: F401 - registers by import
