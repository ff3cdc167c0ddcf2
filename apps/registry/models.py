"""Versioned assets: models, environments, code. A version never changes once it is made."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from apps.accounts.models import Workspace
from apps.registry.enums import ModelType


class Tree(models.Model):
    """A folder in the content-addressed store; equal content is stored once."""

    digest = models.CharField(max_length=64, primary_key=True)
    size_bytes = models.PositiveBigIntegerField()
    files = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.digest[:12]


class Asset(models.Model):
    """A named series of versions in a workspace."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE)
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    is_archived = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="%(class)s_name_in_workspace")]

    def __str__(self) -> str:
        return self.name


class AssetVersion(models.Model):
    version = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    is_archived = models.BooleanField(default=False)
    is_anonymous = models.BooleanField(default=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)
    modified_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True
        ordering = ["-created_at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["asset", "version"], name="%(class)s_once")]

    def __str__(self) -> str:
        return f"{self.asset.name}:{self.version}"


class Model(Asset):
    pass


class ModelVersion(AssetVersion):
    asset = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    type = models.CharField(max_length=20, choices=ModelType.choices, default=ModelType.CUSTOM)
    tree = models.ForeignKey(Tree, on_delete=models.PROTECT)
    path = models.CharField(
        max_length=500,
        blank=True,
        help_text="what the model's URI names inside the tree; for MLflow the folder with MLmodel",
    )
    source = models.CharField(max_length=500, blank=True, help_text="where it came from: upload, server path, runs:/…")
    flavors = models.JSONField(default=dict, blank=True)
    signature = models.JSONField(null=True, blank=True)
    input_example = models.JSONField(null=True, blank=True)
    run_id = models.CharField(max_length=64, blank=True)

    class Meta(AssetVersion.Meta):
        abstract = False


class Environment(Asset):
    pass


class EnvironmentVersion(AssetVersion):
    asset = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="versions")
    image = models.CharField(max_length=500, blank=True)
    conda_file = models.TextField(blank=True)
    requirements = models.TextField(blank=True)
    build_context = models.ForeignKey(Tree, null=True, on_delete=models.PROTECT)
    dockerfile_path = models.CharField(max_length=500, blank=True)
    inference_config = models.JSONField(null=True, blank=True)
    os_type = models.CharField(max_length=10, default="Linux")

    class Meta(AssetVersion.Meta):
        abstract = False


class Code(Asset):
    pass


class CodeVersion(AssetVersion):
    asset = models.ForeignKey(Code, on_delete=models.CASCADE, related_name="versions")
    tree = models.ForeignKey(Tree, on_delete=models.PROTECT)
    path = models.CharField(max_length=500, blank=True)
    hash_sha256 = models.CharField(max_length=64, blank=True, db_index=True, help_text="as the SDK computes it")

    class Meta(AssetVersion.Meta):
        abstract = False


class Upload(models.Model):
    """Content that was sent and may be registered: the only way a caller can name a tree."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE)
    tree = models.ForeignKey(Tree, on_delete=models.PROTECT)
    path = models.CharField(max_length=500, blank=True, help_text="the top folder of what was sent, if it has just one")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.uri

    @property
    def uri(self) -> str:
        return f"portway://uploads/{self.id}" + (f"/{self.path}" if self.path else "")
