"""Versioned assets: models, environments, code, data; and datastores. A version never changes once it is made."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.accounts.models import Workspace
from apps.core.fields import EncryptedTextField
from apps.registry.enums import ComponentType, DatastoreType, DataType, ModelType


class Tree(models.Model):
    """A folder in the content-addressed store; equal content is stored once."""

    digest = models.CharField(max_length=64, primary_key=True)
    size_bytes = models.PositiveBigIntegerField()
    files = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(
        default=timezone.now, help_text="when somebody last stored or let go of it; see storage.collect"
    )

    def __str__(self) -> str:
        return self.digest[:12]


class Asset(models.Model):
    """A named series of versions in a workspace."""

    versions: Any  # the related manager; each kind of asset has its own
    objects: ClassVar[Any]

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
    asset: Any
    objects: ClassVar[Any]
    light: ClassVar[tuple[str, ...]] = ("asset", "version", "is_archived", "created_at")  # what lists of assets read
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
    source = models.CharField(max_length=2000, blank=True, help_text="where it came from: upload, server path, runs:/…")
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

    @property
    def source_text(self) -> str:
        """What says which packages it has; of an image alone, its name."""
        return self.conda_file or self.requirements or self.image

    @property
    def made_of(self) -> str:
        packages = bool(self.conda_file or self.requirements)
        if self.build_context_id:
            return _("a Dockerfile and packages") if packages else _("a Dockerfile")
        if self.image:
            return _("an image and packages") if packages else _("an image")
        return _("packages")


class Code(Asset):
    pass


class CodeVersion(AssetVersion):
    asset = models.ForeignKey(Code, on_delete=models.CASCADE, related_name="versions")
    tree = models.ForeignKey(Tree, on_delete=models.PROTECT)
    path = models.CharField(max_length=500, blank=True)
    hash_sha256 = models.CharField(max_length=64, blank=True, db_index=True, help_text="as the SDK computes it")

    class Meta(AssetVersion.Meta):
        abstract = False


class Data(Asset):
    pass


class DataVersion(AssetVersion):
    """A file or folder by its address; an uploaded one by its tree, because uploads go after a day."""

    light = (*AssetVersion.light, "type")
    asset = models.ForeignKey(Data, on_delete=models.CASCADE, related_name="versions")
    type = models.CharField(max_length=20, choices=DataType.choices, default=DataType.FOLDER)
    uri = models.CharField(max_length=2000, blank=True, help_text="as `locations` writes it; empty with a tree")
    tree = models.ForeignKey(Tree, null=True, on_delete=models.PROTECT)
    path = models.CharField(max_length=500, blank=True, help_text="inside the tree")

    class Meta(AssetVersion.Meta):
        abstract = False

    @property
    def source_uri(self) -> str:
        return self.uri or f"portway://data/{self.asset.name}/{self.version}"


class BlobMetadata(models.Model):
    """What the SDK has noted on a file of the default datastore."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    path = models.CharField(max_length=1100)
    values = models.JSONField(default=dict)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "path"], name="metadata_of_blob")]

    def __str__(self) -> str:
        return self.path


class Datastore(models.Model):
    """A place for data that a workspace knows by name."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="datastores")
    name = models.CharField(max_length=255)
    type = models.CharField(max_length=20, choices=DatastoreType.choices)
    is_default = models.BooleanField(default=False)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    settings = models.JSONField(default=dict, help_text="where it is, in the words of the wire")
    credentials = EncryptedTextField(null=True, help_text="JSON: credentialsType and the secrets")
    created_at = models.DateTimeField(auto_now_add=True)
    modified_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-is_default", "name"]
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="datastore_name_in_workspace")]

    def __str__(self) -> str:
        return self.name

    @property
    def place(self) -> str:
        """Where it is, in a few words; nothing of it is secret."""
        words = [self.settings.get(key) for key in ("endpoint", "accountName", "containerName", "bucketName", "prefix")]
        return " / ".join(str(each) for each in words if each)


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


class MlflowLink(models.Model):
    """How far the model registry of MLflow has been read for a workspace."""

    workspace = models.OneToOneField(Workspace, on_delete=models.CASCADE, primary_key=True, related_name="mlflow_link")
    touched_at = models.DateTimeField(help_text="when somebody last asked MLflow to change its registry")
    synced_at = models.DateTimeField(null=True, db_index=True)
    full_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return str(self.workspace)


class MlflowImport(models.Model):
    """A version of MLflow's registry: imported once, or why not yet. It stays when the version is deleted here."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE)
    name = models.CharField(max_length=256)
    version = models.CharField(max_length=64)
    made_ms = models.BigIntegerField(help_text="when MLflow made it: a deleted name can be used again")
    model_version = models.ForeignKey(ModelVersion, null=True, on_delete=models.SET_NULL)
    imported_at = models.DateTimeField(null=True)
    error = models.JSONField(null=True, help_text="a problem of the catalogue")
    attempts = models.PositiveIntegerField(default=0)
    retry_at = models.DateTimeField(help_text="not before; while an import runs, when it counts as dead")

    class Meta:
        ordering = ["name", "version"]
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name", "version", "made_ms"], name="mlflow_version_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


class Component(Asset):
    pass


class ComponentVersion(AssetVersion):
    asset = models.ForeignKey(Component, on_delete=models.CASCADE, related_name="versions")
    type = models.CharField(max_length=10, choices=ComponentType.choices)
    display_name = models.CharField(max_length=255, blank=True)
    spec = models.JSONField(help_text="as pipelines.documents makes it; what it refers to is named with its version")
    code = models.ForeignKey(CodeVersion, null=True, on_delete=models.PROTECT, related_name="components")
    environment = models.ForeignKey(EnvironmentVersion, null=True, on_delete=models.PROTECT, related_name="components")
    parts = models.ManyToManyField("self", symmetrical=False, related_name="pipelines")
    is_deterministic = models.BooleanField(default=True)

    class Meta(AssetVersion.Meta):
        abstract = False
