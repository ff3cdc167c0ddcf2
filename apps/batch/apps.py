from django.apps import AppConfig


class BatchConfig(AppConfig):
    name = "apps.batch"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.batch import health, operations, provisioning, reconcile  # noqa: F401, PLC0415 -- register their part
