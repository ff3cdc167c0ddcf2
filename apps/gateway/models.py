"""What the gateway serves (routes), who may call it (keys), and what was last published."""

from __future__ import annotations

from django.db import models

from apps.core.fields import EncryptedTextField


class Route(models.Model):
    """The gateway's view of one endpoint; written by `gateway.domain.put_route`, rendered by `apps.gateway.envoy`."""

    endpoint = models.CharField(max_length=32, primary_key=True)
    workspace = models.CharField(max_length=64)
    auth = models.CharField(max_length=10)
    traffic = models.JSONField(default=dict)
    mirror = models.JSONField(default=dict)
    deployments = models.JSONField(default=dict, help_text="name → gateway.domain.Target as JSON")
    public = models.BooleanField(default=True)
    rate_per_second = models.PositiveIntegerField(default=500)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["endpoint"]

    def __str__(self) -> str:
        return self.endpoint


class EndpointKey(models.Model):
    """One of the two keys of an endpoint: its digest for the gateway, its text (encrypted) for who may list keys."""

    endpoint = models.CharField(max_length=32)
    slot = models.CharField(max_length=10, choices=[("primary", "primary"), ("secondary", "secondary")])
    salt = models.CharField(max_length=32)
    digest = models.CharField(max_length=64)
    value = EncryptedTextField()
    created_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["endpoint", "slot"], name="one_key_per_slot")]

    def __str__(self) -> str:
        return f"{self.endpoint} {self.slot}"


class Publication(models.Model):
    """The last attempt to give the gateway its configuration; one row."""

    version = models.PositiveBigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True)
    accepted = models.BooleanField(null=True)
    reason = models.TextField(blank=True)
    seconds = models.FloatField(default=0)
    at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"version {self.version}"
