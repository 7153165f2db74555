"""Django's settings for the shop: no database, no sessions, no secrets."""

import secrets
from pathlib import Path

_HERE = Path(__file__).resolve().parent

# Nothing is signed that has to outlive the process, so each start makes its own key.
SECRET_KEY = secrets.token_urlsafe(48)
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", ".localhost"]  # the second covers localhost and NAME.localhost
ROOT_URLCONF = "bookshop.urls"
INSTALLED_APPS: list[str] = []
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
X_FRAME_OPTIONS = "SAMEORIGIN"
DATABASES: dict[str, dict[str, str]] = {}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [_HERE / "templates"],
        "OPTIONS": {"context_processors": ["bookshop.views.shop"]},
    }
]
STATIC_URL = "/static/"
STATIC_FOLDER = _HERE / "static"
USE_I18N = False
USE_TZ = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    # Without this, Django mails its errors when DEBUG is off, and nobody reads that mail.
    "loggers": {
        "django": {"handlers": ["stderr"], "level": "WARNING"},
        "django.server": {"level": "INFO"},  # a line per request
    },
}
