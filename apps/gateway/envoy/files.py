"""The files below the xds folder: one folder per resource type, so that a rename wakes only its own watcher."""

LISTENERS_FILE = "lds/listeners.json"
CLUSTERS_FILE = "cds/clusters.json"
LIMITS_FILE = "rtds/limits.json"
SECRETS_FILE = "sds/secrets.json"


def route_file(table: str) -> str:
    return f"rds/{table}.json"
