"""What the studio remembers for a person: nothing that anything else depends on."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from apps.endpoints.models import OnlineEndpoint


class Call(models.Model):
    """A request somebody sent from a test page, with the beginning of its answer."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    endpoint = models.ForeignKey(OnlineEndpoint, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField(auto_now_add=True)
    asked = models.CharField(
        max_length=32, blank=True, help_text="the deployment that was asked for; empty: by traffic"
    )
    path = models.CharField(max_length=300)
    content_type = models.CharField(max_length=100)
    body = models.TextField(blank=True, help_text="empty when it was a file or too long to keep")
    status = models.PositiveSmallIntegerField()
    seconds = models.FloatField()
    answered_by = models.CharField(max_length=64, blank=True)
    answer = models.TextField(blank=True)
    request_id = models.CharField(max_length=100, blank=True)

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["user", "endpoint", "-at"], name="studio_call_history")]

    def __str__(self) -> str:
        return f"{self.endpoint.name}{self.path} {self.status}"
