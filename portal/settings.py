"""Settings of the Django project. What an operator may change comes from the environment: docs/configuration.md."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from django.utils.translation import gettext_lazy as _

from cli.handout import handout
from cli.home import Home, docker_url, env_bool, env_int, env_pairs, env_secret, env_size

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Home.from_environment()
HOME.create()

VERSION = "0.1.0"
DEBUG = env_bool("PORTWAY_DEBUG", default=False)
SECRET_KEY = env_secret("PORTWAY_SECRET_KEY") or HOME.secret("django")
ENCRYPTION_KEYS = [env_secret("PORTWAY_ENCRYPTION_KEY") or HOME.secret("encryption")]  # first encrypts, all decrypt

PORT = env_int("PORTWAY_PORT", 8443)
HTTP_PORT = env_int("PORTWAY_HTTP_PORT", 8080)
PRIVATE_PORT = env_int("PORTWAY_PRIVATE_PORT", 8081)  # endpoints with public_network_access: disabled
HOST = os.environ.get("PORTWAY_HOST", "localhost")  # the name clients use, and the one in every URI we hand out
BIND = os.environ.get("PORTWAY_BIND", "127.0.0.1")
BASE_URL = f"https://{HOST}:{PORT}"
ALLOWED_HOSTS = [
    HOST,
    "localhost",
    "127.0.0.1",
    "[::1]",
    *filter(None, os.environ.get("PORTWAY_ALLOWED_HOSTS", "").split(",")),
]
CSRF_TRUSTED_ORIGINS = [BASE_URL, f"http://{HOST}:{HTTP_PORT}", f"https://127.0.0.1:{PORT}"]

SUBSCRIPTION_ID = "00000000-0000-0000-0000-000000000000"
RESOURCE_GROUP = "portway"
LOCATION = "local"

INSTALLED_APPS = [
    "unfold",  # before the admin, whose templates it replaces
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_cotton.apps.SimpleAppConfig",
    "template_partials.apps.SimpleAppConfig",
    "django_htmx",
    "csp",
    "apps.core",
    "apps.accounts",
    "apps.monitoring",
    "apps.registry",
    "apps.compute",
    "apps.builds",
    "apps.gateway",
    "apps.endpoints",
    "apps.batch",
    "apps.api",
    "apps.studio",
    "apps.console",
]

MIDDLEWARE = [
    "apps.core.middleware.RequestId",
    "apps.core.middleware.NoNul",
    "apps.api.paths.CanonicalPaths",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "portal.urls"
ASGI_APPLICATION = "portal.asgi.application"
APPEND_SLASH = False

TEMPLATE_LOADERS = [
    "django_cotton.cotton_loader.Loader",
    "django.template.loaders.filesystem.Loader",
    "django.template.loaders.app_directories.Loader",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "loaders": [("django.template.loaders.cached.Loader", TEMPLATE_LOADERS)],
            "builtins": ["django_cotton.templatetags.cotton", "template_partials.templatetags.partials"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.studio.context.studio",
            ],
        },
    },
]


def database(url: str) -> dict[str, Any]:
    """`DATABASE_URL` (postgresql://user:password@host:port/name) or the embedded SQLite file."""
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": HOME.database,
            "OPTIONS": {
                # writers wait for their turn at BEGIN instead of failing at the first write
                "transaction_mode": "IMMEDIATE",
                "timeout": 30,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
            },
        }
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ValueError(f"DATABASE_URL must begin with postgresql://, not {parts.scheme}://")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or "") or env_secret("PORTWAY_DATABASE_PASSWORD"),
        "HOST": unquote(parts.hostname or ""),
        "PORT": parts.port or "",
        "CONN_HEALTH_CHECKS": True,
        "CONN_MAX_AGE": 60,
        "OPTIONS": {"connect_timeout": 5},
    }


DATABASE_URL = os.environ.get("DATABASE_URL", "")
DATABASES = {"default": database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = os.environ.get("REDIS_URL", "") or f"unix://{HOME.broker_socket}"

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "portway"},
    },
}

CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600, "socket_timeout": 10, "socket_connect_timeout": 2}
CELERY_TASK_IGNORE_RESULT = True
# The database is the record of what has to run; a message is only a wake-up, so it may be lost or doubled.
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.1}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_REDIRECT_URL = "/"
LOGIN_URL = "account_login"
ACCOUNT_ADAPTER = "apps.accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "/accounts/login/"
ALLAUTH_TRUSTED_PROXY_COUNT = 1  # the gateway; sign-in attempts are limited by the address it saw
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "Portway"
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_NAME = "portway_session"
CSRF_COOKIE_NAME = "portway_csrf"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = env_bool("PORTWAY_SECURE_COOKIES", default=True)
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "object-src": ["'none'"],
    },
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.api.auth.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apps.api.parsers.BoundedJSONParser"],
    "EXCEPTION_HANDLER": "apps.api.errors.handle",
    "DEFAULT_SCHEMA_CLASS": "apps.api.schema.PortwaySchema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Portway",
    "DESCRIPTION": "Model serving in the wire format of Azure ML endpoints.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {"PublicNetworkAccessEnum": ["Enabled", "Disabled"]},
    "PREPROCESSING_HOOKS": ["apps.api.schema.short_prefix_only"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

UNFOLD = {"SIDEBAR": {"navigation": "apps.console.navigation.groups"}}

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English"))]  # those with a catalogue in locale/
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATIC_ROOT = HOME.static
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 3600

DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 2**20
FILE_UPLOAD_MAX_MEMORY_SIZE = 2**20
FILE_UPLOAD_TEMP_DIR = HOME.uploads
DATA_UPLOAD_MAX_NUMBER_FILES = 10_000
DATA_UPLOAD_MAX_NUMBER_FIELDS = DATA_UPLOAD_MAX_NUMBER_FILES + 100  # each file comes with a field that says its path

# What Azure documents as quotas (spec 2.1); an installation may change them.
LIMITS = {
    "endpoints": 100,
    "deployments": 500,
    "deployments_per_endpoint": 20,
    "instances_per_deployment": 50,
    "clusters": 200,
    "nodes_per_cluster": 100,
    "jobs_per_workspace": 10_000,  # that have not ended
    "mini_batches_per_job": 200_000,
    "job_output_bytes": 100 * 2**30,
    "job_files_days": 30,
    "request_timeout_ms": 180_000,
    "requests_per_second": env_int("PORTWAY_REQUESTS_PER_SECOND", 10_000),  # docs/decisions/rate-limit.md
    "upload_bytes": 5 * 2**30,
    "upload_files": 50_000,
}
FETCH_S = env_int("PORTWAY_FETCH_S", 600)  # for one file of a job's input from afar
START_DEADLINE_S = env_int("PORTWAY_START_DEADLINE_S", 300)
CURRENCY = os.environ.get("PORTWAY_CURRENCY", "USD")  # of the prices IT gives instance types; shown, never billed
DEFAULT_DRIVER = os.environ.get("PORTWAY_DRIVER", "process")
NODE_NAME = os.environ.get("PORTWAY_NODE_NAME", "") or socket.gethostname()[:60]  # of this machine among worker hosts
PROCESS_COMPUTE = env_bool("PORTWAY_PROCESS_COMPUTE", default=True)  # off where parts do not share their processes
HANDOUT = handout(BASE_DIR, os.environ.get("PORTWAY_HANDOUT", ""))  # what of Portway itself goes into replicas
DOCKER_URL = docker_url()  # the container engine; empty: there is none, or it shall not be used
BASE_IMAGE = os.environ.get("PORTWAY_BASE_IMAGE", "python:3.11-slim")  # of Python environments that name no image
TRITON_IMAGE = os.environ.get("PORTWAY_TRITON_IMAGE", "")  # instead of the server of the nvidia-pytriton package
ISOLATION_REQUIRED = os.environ.get(
    "PORTWAY_ISOLATION", ""
)  # the least level replicas may run at; empty: the best there is

LOG_DAYS = env_int("PORTWAY_LOG_DAYS", 14)  # what is kept of replicas that are gone, and of requests
LOG_BYTES = env_int("PORTWAY_LOG_BYTES", 2 * 2**30)
ACCESS_LOG_BYTES = env_int("PORTWAY_ACCESS_LOG_BYTES", 2**30)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "lines": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer(
                    colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
                ),
            ],
            "foreign_pre_chain": [
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
            ],
        },
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "lines"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "celery": {"level": "WARNING"},
        "kombu": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
    },
}
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)

INPUT_HOSTS_ALLOWED = frozenset(  # host or host:port that data may be read from although its address is not global
    filter(None, os.environ.get("PORTWAY_INPUT_HOSTS", "").replace(" ", "").lower().split(","))
)

UV_CACHE_DIR = os.environ.get(
    "PORTWAY_UV_CACHE", ""
)  # uv's own cache unless set; best on the file system of the environments
ALLOW_SOURCE_BUILDS = env_bool("PORTWAY_ALLOW_SOURCE_BUILDS", default=False)

PULL_IMAGES = env_bool("PORTWAY_PULL_IMAGES", default=True)
PULL_TIMEOUT_S = env_int("PORTWAY_PULL_TIMEOUT_S", 1800)
BUILD_TIMEOUT_S = env_int("PORTWAY_BUILD_TIMEOUT_S", 3600)
BUILD_MEMORY = env_size("PORTWAY_BUILD_MEMORY", 4 * 2**30)
BUILD_CONTEXT_BYTES = env_size("PORTWAY_BUILD_CONTEXT", 2**30)  # of one build context
BUILD_NETWORK = os.environ.get("PORTWAY_BUILD_NETWORK", "bridge")  # containers of builds need the package index
BUILD_CA = os.environ.get("PORTWAY_BUILD_CA", "")
BUILD_INDEX_URL = os.environ.get("PORTWAY_BUILD_INDEX_URL", "")  # may hold a password: it is never logged
BUILD_ARGS = env_pairs("PORTWAY_BUILD_ARGS")
