from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "apps.monitoring"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.monitoring import logs  # noqa: F401, PLC0415 -- registers jobs
