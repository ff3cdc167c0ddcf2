"""Replica sets made before logs were kept do not say whose they are, so their logs would be seen by nobody."""

from django.db import migrations


def name_workspaces(apps, schema_editor):
    endpoints = apps.get_model("endpoints", "OnlineEndpoint").objects.select_related("workspace")
    by_name = {each.name: each for each in endpoints}
    for replica_set in apps.get_model("compute", "ReplicaSet").objects.all():
        endpoint = by_name.get(replica_set.owner_key.partition("/")[0])
        labels = replica_set.spec.get("labels") or {}
        if endpoint is None or labels.get("workspace"):
            continue
        replica_set.spec = {**replica_set.spec, "labels": {**labels, "workspace": endpoint.workspace.name}}
        replica_set.save(update_fields=["spec"])
    logs = apps.get_model("monitoring", "ReplicaLog").objects.filter(workspace="")
    for endpoint in by_name.values():  # an earlier endpoint of the name may have been another workspace's
        mine = logs.filter(endpoint=endpoint.name, started_at__gte=endpoint.created_at)
        mine.update(workspace=endpoint.workspace.name)


class Migration(migrations.Migration):
    dependencies = [
        ("endpoints", "0001_initial"),
        ("compute", "0004_held_replicas"),
        ("monitoring", "0002_replica_logs"),
    ]

    operations = [migrations.RunPython(name_workspaces, migrations.RunPython.noop)]
