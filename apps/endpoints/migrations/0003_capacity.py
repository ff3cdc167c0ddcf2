"""Deployments can ask for resources of their own; those that exist get their reservations, also beyond capacity."""

from django.conf import settings
from django.db import migrations, models


def reserve(apps, schema_editor):
    """As the verbs would, but nothing is refused: what runs, runs."""
    import psutil

    cpu_here = (psutil.cpu_count() or 1) * 1000
    memory_here = int(psutil.virtual_memory().total * 0.9)
    types = {each.name.lower(): each for each in apps.get_model("compute", "InstanceType").objects.all()}
    reservations = apps.get_model("compute", "Reservation")
    rows = apps.get_model("endpoints", "OnlineDeployment").objects.select_related("endpoint", "serving")
    for each in rows:
        size = types.get(each.instance_type.lower())
        count = each.instance_count
        reservations.objects.get_or_create(
            owner_key=f"{each.endpoint.name}/{each.name}",
            defaults={
                "workspace_id": each.endpoint.workspace_id,
                "target": each.serving.driver if each.serving else settings.DEFAULT_DRIVER,
                "cpu_milli": min(size.cpu_milli, cpu_here) * count if size else 0,
                "mem_bytes": min(size.mem_bytes, memory_here) * count if size else 0,
                "gpus": size.gpus * count if size else 0,
                "instances": count,
            },
        )


class Migration(migrations.Migration):
    dependencies = [
        ("endpoints", "0002_workspace_of_kept_logs"),
        ("compute", "0005_capacity"),
    ]

    operations = [
        migrations.AddField(
            model_name="onlinedeployment",
            name="resources",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="requests and limits in place of the type's size: compute.quantities.Resources",
            ),
        ),
        migrations.RunPython(reserve, migrations.RunPython.noop),
    ]
