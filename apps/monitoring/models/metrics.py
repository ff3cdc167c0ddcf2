"""Metrics: what was counted in an interval, and what the next interval is counted from.

Times are milliseconds since 1970: rows are read by the ten thousand, and numbers are read much faster than dates. An
endpoint is named by its primary key, which is never used again: the next owner of its name sees none of its past.
"""

from __future__ import annotations

from django.db import models

FINE, COARSE = 10, 300


class Sample(models.Model):
    """What happened in `(end - span, end]` at one deployment; `deployment` is "" for what the gateway answered itself.

    The samples of one deployment never overlap. Counts belong to the interval alone, so they can be added.
    """

    endpoint = models.BigIntegerField()
    deployment = models.CharField(max_length=32, blank=True)
    resolution = models.PositiveSmallIntegerField(help_text="seconds: 10 as measured, 300 rolled up")
    end = models.BigIntegerField()
    span = models.PositiveIntegerField()
    requests = models.PositiveBigIntegerField(default=0)
    status_2xx = models.PositiveBigIntegerField(default=0)
    status_3xx = models.PositiveBigIntegerField(default=0)
    status_4xx = models.PositiveBigIntegerField(default=0, help_text="408, 424, 429 and callers who left included")
    status_5xx = models.PositiveBigIntegerField(default=0)
    timeouts = models.PositiveBigIntegerField(default=0, help_text="408")
    model_errors = models.PositiveBigIntegerField(default=0, help_text="424")
    throttled = models.PositiveBigIntegerField(default=0, help_text="429")
    latency = models.JSONField(default=list, help_text="bin, count, bin, count …: see apps.monitoring.latency")
    active = models.PositiveIntegerField(default=0, help_text="in flight; the most of the interval's readings")
    ready = models.PositiveIntegerField(default=0, help_text="the least")
    desired = models.PositiveIntegerField(default=0, help_text="the most")
    restarts = models.PositiveIntegerField(default=0)
    cpu_ms = models.PositiveBigIntegerField(null=True, help_text="processor time used; null: not known")
    cpu_limit_ms = models.PositiveBigIntegerField(default=0, help_text="processor time allowed")
    mem_bytes = models.PositiveBigIntegerField(null=True, help_text="of all replicas together; the most")
    mem_max = models.PositiveBigIntegerField(null=True, help_text="of the largest replica; the most")
    mem_limit = models.PositiveBigIntegerField(default=0, help_text="of all replicas together; the most")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "resolution", "end", "deployment"], name="one_sample_per_end")
        ]
        indexes = [models.Index(fields=["resolution", "end"], name="samples_by_age")]

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.deployment} {self.resolution} s to {self.end}"


class Baseline(models.Model):
    """The counters of one deployment as they stood at its last sample: the next one is counted from here.

    By name and not by key, since that is how the gateway counts: a new endpoint of a deleted one's name finds the old
    counters still standing, and must not be told of them. `endpoint` 0: nobody's.
    """

    name = models.CharField(max_length=66, primary_key=True, help_text="endpoint/deployment")
    endpoint = models.BigIntegerField()
    epoch = models.CharField(max_length=60, help_text="which run of the gateway counted")
    at = models.BigIntegerField()
    present = models.BooleanField(default=True, help_text="the deployment exists")
    values = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.name


class Tick(models.Model):
    """When was sampled last, and up to where samples are rolled up; one row."""

    at = models.BigIntegerField(default=0)
    rolled = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"sampled to {self.at}"


class Recent(models.Model):
    """The last `window` seconds of an endpoint, for lists; written again every half minute."""

    endpoint = models.BigIntegerField()
    window = models.PositiveIntegerField()
    requests = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    p50 = models.FloatField(null=True)
    p95 = models.FloatField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["window", "endpoint"], name="one_recent_per_window")]

    def __str__(self) -> str:
        return f"{self.endpoint} {self.window} s"
