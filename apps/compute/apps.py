from django.apps import AppConfig


class ComputeConfig(AppConfig):
    name = "apps.compute"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.compute import health  # noqa: F401, PLC0415 -- registers what it looks at
