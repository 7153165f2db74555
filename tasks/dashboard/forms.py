"""The form that submits a task, with the API's rules."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django import forms

from tasks.addresses import origin_of
from tasks.models import Project, Task

WHOLE = "Use a whole number from 1 to 10."


class TaskForm(forms.Form):
    """What to build, where, how soon."""

    feature = forms.CharField(
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "Add dark mode toggle"}),
        error_messages={"required": "Say what to build, for example: Add dark mode toggle."},
    )
    target_url = forms.CharField(
        required=False,
        max_length=2000,
        label="Target URL",
        widget=forms.TextInput(attrs={"inputmode": "url", "placeholder": "https://app.dev"}),
    )
    project = forms.ModelChoiceField(
        Project.objects.none(),
        required=False,
        to_field_name="name",
        empty_label="The one at this address",
    )
    priority = forms.IntegerField(
        initial=5,
        min_value=1,
        max_value=10,
        help_text="10 is soonest",
        error_messages=dict.fromkeys(("required", "invalid", "min_value", "max_value"), WHOLE),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"auto_id": "new-%s", "label_suffix": "", **kwargs})
        choice = self.fields["project"]
        if isinstance(choice, forms.ModelChoiceField):
            choice.queryset = Project.objects.all()

    def clean_target_url(self) -> str:
        """Refuse what is no http(s) URL or carries a user name; "" stands for the project's own."""
        url = str(self.cleaned_data["target_url"])
        if not url:
            return ""
        try:
            origin_of(url)
            has_user = "@" in urlsplit(url).netloc
        except ValueError as error:
            text = "Use a full address that starts with http:// or https://."
            raise forms.ValidationError(text) from error
        if has_user:
            raise forms.ValidationError("Leave the user name and password out of the address.")
        if any(letter.isspace() for letter in url):
            raise forms.ValidationError("An address holds no spaces.")
        return url

    def clean(self) -> dict[str, Any]:
        """Find the project: the one named, else the one at this address, else a lone demo."""
        cleaned: dict[str, Any] = self.cleaned_data
        if self.errors:
            return cleaned
        found = cleaned["project"] or self._project_at(cleaned["target_url"])
        if found is None:
            names = ", ".join(Project.objects.values_list("name", flat=True))
            text = (
                f"No project lives at this address. Choose one: {names}."
                if names
                else ("No project is registered yet. Add one with: manage.py project add")
            )
            raise forms.ValidationError(text)
        return {
            **cleaned,
            "project": found,
            "target_url": cleaned["target_url"] or found.target_url,
        }

    def submit(self) -> Task:
        """Queue the task of a form that is valid."""
        wanted = self.cleaned_data
        return Task.submit(
            wanted["project"],
            wanted["feature"],
            wanted["target_url"],
            priority=wanted["priority"],
        )

    @staticmethod
    def _project_at(url: str) -> Project | None:
        if url:
            found = Project.objects.filter(target_origin=origin_of(url)).first()
            if found is not None:
                return found
        projects = list(Project.objects.all()[:2])
        is_lone = len(projects) == 1 and (projects[0].is_demo or not url)
        return projects[0] if is_lone else None
