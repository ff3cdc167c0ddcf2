from apps.monitoring.models.logs import ReplicaLog
from apps.monitoring.models.metrics import Baseline, Recent, Sample, Tick

__all__ = ["Baseline", "Recent", "ReplicaLog", "Sample", "Tick"]
