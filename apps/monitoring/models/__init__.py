from apps.monitoring.models.logs import ReplicaLog

__all__ = ["ReplicaLog"]
