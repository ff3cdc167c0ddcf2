from django.apps import AppConfig


class BuildsConfig(AppConfig):
    name = "apps.builds"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.builds import operations, reconcile  # noqa: F401, PLC0415 -- registers handlers and jobs
