"""Environments made runnable: one row per content key."""

from __future__ import annotations

from django.db import models

from apps.builds.enums import BuildState


class Build(models.Model):
    """A content-addressed Python environment: equal requirements, Python and platform share one build."""

    key = models.CharField(max_length=64, primary_key=True)
    state = models.CharField(max_length=16, choices=BuildState.choices, default=BuildState.BUILDING)
    path = models.CharField(max_length=500, blank=True)
    python = models.CharField(max_length=20, blank=True, help_text="the version it was built with, e.g. 3.11.7")
    requirements = models.TextField(blank=True, help_text="what was asked, after translation")
    lock = models.TextField(blank=True, help_text="what was installed, pinned")
    report = models.JSONField(default=list, help_text="each dropped or renamed line with its reason")
    log = models.TextField(blank=True)
    error = models.JSONField(null=True)
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    size_bytes = models.PositiveBigIntegerField(null=True, help_text="on disk, when it was last looked at")

    class Meta:
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return self.key[:12]

    @property
    def tone(self) -> str:
        return BuildState(self.state).tone


class Resolution(models.Model):
    """What a request was resolved to the first time: the same request gets the same environment ever after."""

    request_key = models.CharField(max_length=64, primary_key=True)
    build = models.ForeignKey(Build, on_delete=models.CASCADE, related_name="requests")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.request_key[:12]
