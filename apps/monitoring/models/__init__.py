from apps.monitoring.models.metrics import Baseline, Recent, Sample, Tick

__all__ = ["Baseline", "Recent", "Sample", "Tick"]
