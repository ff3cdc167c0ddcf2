from django.apps import AppConfig


class EndpointsConfig(AppConfig):
    name = "apps.endpoints"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.endpoints import operations, reconcile  # noqa: F401, PLC0415 -- registers handlers and jobs
