from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "apps.core"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.core import beat, reconcile  # noqa: F401, PLC0415 -- registers the sign of life and the jobs
