"""Django settings of Chimera: the only reader of the environment."""

import os
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from chimera_site import options, secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

_config_file = os.environ.get("CHIMERA_CONFIG") or str(BASE_DIR / "config" / "chimera-daemon.yml")
try:
    CHIMERA = options.load(os.environ, Path(_config_file))
    CHIMERA.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    SECRET_KEY = secret_key.read_or_create(CHIMERA.home / "secret_key")
except (options.OptionError, secret_key.SecretKeyError) as error:
    raise ImproperlyConfigured(str(error)) from error

DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
if CHIMERA.api_host not in {"0.0.0.0", "::", *ALLOWED_HOSTS}:  # noqa: S104 - compared, not bound
    ALLOWED_HOSTS.append(CHIMERA.api_host)

INSTALLED_APPS = [
    "daphne",
    "tasks",  # before django_q: it overrides the qcluster command
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "channels",
    "django_q",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "chimera_site.urls"
ASGI_APPLICATION = "chimera_site.asgi.application"
WSGI_APPLICATION = "chimera_site.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

if CHIMERA.database_url:
    DATABASES = {"default": environ.Env.db_url_config(CHIMERA.database_url)}
    DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,
        # A server that is gone without a word is noticed within 20 s.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": 20_000,
        # As patient with a lock as SQLite below; a process that is frozen in the middle of a
        # transaction keeps others waiting for less than that.
        "options": "-c lock_timeout=20s -c idle_in_transaction_session_timeout=15s",
        **DATABASES["default"].get("OPTIONS", {}),
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": CHIMERA.db_path,
            "CONN_MAX_AGE": None,  # the broker polls `PRAGMA data_version` of one connection
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                # A burst of writes may make the log larger; without a limit it would stay so.
                "init_command": (
                    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
                    f"PRAGMA journal_size_limit={16 * 2**20};"
                ),
            },
        }
    }
ATOMIC_REQUESTS = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = CHIMERA.home / "static"
STATIC_ROOT.mkdir(exist_ok=True)  # whitenoise warns where it is not there
WHITENOISE_USE_FINDERS = True  # a checkout serves its own files, with no collectstatic step

CSRF_USE_SESSIONS = True  # no token in a cookie that another port of this host could read
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

# One process serves sockets and reads the events for them (tasks/dashboard/tailer.py), so its
# own memory is enough. Sockets read the rows themselves after a nudge that found no room.
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1000}}
}

# The API: JSON in and out, pages for people with a browser; closed where a view names nobody.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["tasks.api.auth.DenyAll"],
    "DEFAULT_PARSER_CLASSES": ["tasks.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": [
        "tasks.api.renderers.SafeJSONRenderer",
        "rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "tasks.api.renderers.LenientNegotiation",
    "EXCEPTION_HANDLER": "tasks.api.problems.exception_handler",
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024  # of any body; chimera_site/gate.py holds it before Django
WHITENOISE_ALLOW_ALL_ORIGINS = False

# The longest phase, plus what one worker may go on claiming for; see docs/architecture.md.
_LONGEST_TASK_S = 6 * 3600
Q_CLUSTER = {
    "name": "chimera",
    "broker_class": "tasks.workflow.broker.TaskBroker",
    "orm": "default",
    "workers": CHIMERA.max_workers,
    "queue_limit": 1,
    "bulk": 1,
    "poll": CHIMERA.poll_interval_s,
    "timeout": _LONGEST_TASK_S + 60,
    "retry": 2 * _LONGEST_TASK_S,
    "ack_failures": True,
    "max_attempts": 1,
    "save_limit": -1,
    "catch_up": False,
    "label": "Engine",
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {"format": "{asctime} {levelname} {name} {message}", "style": "{"},
        "json": {"()": "chimera_site.logs.JsonFormatter"},
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": CHIMERA.log_format},
    },
    # Two lines a nudge, and one a request, say nothing that the rows do not.
    "loggers": {"django-q": {"level": "WARNING"}, "django.channels.server": {"level": "WARNING"}},
    "root": {"handlers": ["stderr"], "level": CHIMERA.log_level},
}
