from django.apps import AppConfig


class GatewayConfig(AppConfig):
    name = "apps.gateway"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.core import limits  # noqa: PLC0415 -- the apps must be loaded first
        from apps.gateway import domain, health, reconcile  # noqa: F401, PLC0415 -- register checks and jobs

        limits.follow("requests_per_second", domain.set_rate)
