"""Online endpoints and their deployments: desired state."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from apps.accounts.models import Workspace
from apps.builds.models import package_of
from apps.compute.models import ReplicaSet
from apps.endpoints.enums import AuthMode, ProvisioningState
from apps.registry.models import CodeVersion, EnvironmentVersion, ModelVersion


class OnlineEndpoint(models.Model):
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="online_endpoints")
    name = models.CharField(max_length=32, unique=True, help_text="unique in the installation: it is in the URL")
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    identity = models.JSONField(default=dict, blank=True)
    auth_mode = models.CharField(max_length=10, choices=AuthMode.choices, default=AuthMode.KEY)
    public_network_access = models.BooleanField(default=True)
    traffic = models.JSONField(default=dict, blank=True)
    mirror_traffic = models.JSONField(default=dict, blank=True)
    scoring_path = models.CharField(
        max_length=500, default="/score", help_text="of the deployment with most of the traffic; set with the routes"
    )
    state = models.CharField(max_length=12, choices=ProvisioningState.choices, default=ProvisioningState.CREATING)
    error = models.JSONField(null=True)
    revision = models.PositiveIntegerField(default=1, help_text="grows with every change; the ETag")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    modified_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    modified_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def topic(self) -> str:
        return f"online-endpoint/{self.name}"

    @property
    def scoring_uri(self) -> str:
        return f"{settings.BASE_URL}/e/{self.name}{self.scoring_path}"

    @property
    def swagger_uri(self) -> str:
        return f"{settings.BASE_URL}/e/{self.name}/swagger.json"

    @property
    def tone(self) -> str:
        return ProvisioningState(self.state).tone


class OnlineDeployment(models.Model):
    endpoint = models.ForeignKey(OnlineEndpoint, on_delete=models.PROTECT, related_name="deployments")
    name = models.CharField(max_length=32)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    model = models.ForeignKey(ModelVersion, null=True, on_delete=models.PROTECT, related_name="deployments")
    code = models.ForeignKey(CodeVersion, null=True, on_delete=models.PROTECT, related_name="deployments")
    scoring_script = models.CharField(max_length=500, blank=True)
    environment = models.ForeignKey(EnvironmentVersion, null=True, on_delete=models.PROTECT, related_name="deployments")
    environment_variables = models.JSONField(default=dict, blank=True)
    model_mount_path = models.CharField(max_length=300, blank=True)
    instance_type = models.CharField(max_length=60)
    instance_count = models.PositiveSmallIntegerField(default=1)
    resources = models.JSONField(
        default=dict,
        blank=True,
        help_text="requests and limits in place of the type's size: compute.quantities.Resources",
    )
    request_timeout_ms = models.PositiveIntegerField(default=5000)
    max_concurrent_requests = models.PositiveIntegerField(default=1)
    max_queue_wait_ms = models.PositiveIntegerField(default=500)
    liveness_probe = models.JSONField(default=dict, blank=True)
    readiness_probe = models.JSONField(default=dict, blank=True)
    egress = models.BooleanField(default=True, help_text="egress_public_network_access; cannot change after creation")
    app_insights_enabled = models.BooleanField(default=False)
    state = models.CharField(max_length=12, choices=ProvisioningState.choices, default=ProvisioningState.CREATING)
    error = models.JSONField(null=True)
    revision = models.PositiveIntegerField(default=1, help_text="of the recipe; a new one is rolled out")
    serving = models.ForeignKey(
        ReplicaSet, null=True, on_delete=models.SET_NULL, related_name="+", help_text="the set that takes traffic now"
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    modified_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    modified_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["endpoint", "name"], name="deployment_name_in_endpoint")]

    def __str__(self) -> str:
        return f"{self.endpoint.name}/{self.name}"

    @property
    def topic(self) -> str:
        return f"online-deployment/{self.endpoint.name}/{self.name}"

    @property
    def served_model(self) -> ModelVersion | None:
        """Its own, or that of its package."""
        package = package_of(self.environment)
        return package.model if package is not None else self.model

    @property
    def owner_key(self) -> str:
        return f"{self.endpoint.name}/{self.name}"

    @property
    def tone(self) -> str:
        return ProvisioningState(self.state).tone
