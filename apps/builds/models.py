"""Environments made runnable: one row per content key, and one per attempt to make an environment so."""

from __future__ import annotations

from django.db import models

from apps.builds.enums import BuildKind, BuildState, ModelMode, Outcome, PackageServer
from apps.core.models import Operation
from apps.registry.models import CodeVersion, EnvironmentVersion, ModelVersion


class Build(models.Model):
    """What was made, addressed by its content: equal requests on equal ground share one build.

    Packages are a folder (`path`) made for the Python of this machine or of the image `image_id`; images lie in the
    container engine under `image_id`.
    """

    key = models.CharField(max_length=64, primary_key=True)
    kind = models.CharField(max_length=16, choices=BuildKind.choices, default=BuildKind.PACKAGES)
    driver = models.CharField(max_length=20, default="process", help_text="the kind of compute it is for")
    state = models.CharField(max_length=16, choices=BuildState.choices, default=BuildState.BUILDING)
    path = models.CharField(max_length=500, blank=True)
    image = models.CharField(max_length=500, blank=True, help_text="the name it was asked by, or was given here")
    image_id = models.CharField(max_length=80, blank=True, help_text="what the name meant then: sha256:…")
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

    @property
    def is_image(self) -> bool:
        return self.kind != BuildKind.PACKAGES


class Resolution(models.Model):
    """What a request was resolved to the first time: the same request gets the same environment ever after."""

    request_key = models.CharField(max_length=64, primary_key=True)
    build = models.ForeignKey(Build, on_delete=models.CASCADE, related_name="requests")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.request_key[:12]


class ImageFacts(models.Model):
    """What was found in an image by looking once; an id never changes its content."""

    image_id = models.CharField(max_length=80, primary_key=True)
    python = models.CharField(max_length=300, blank=True, help_text="its interpreter, empty: none that we can use")
    version = models.CharField(max_length=20, blank=True)
    abi = models.JSONField(null=True, help_text="what says which ready-made packages fit, see runtime/overlay.py")
    seen = models.CharField(max_length=200, blank=True, help_text="why there is none, or what else was noticed")
    probed_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.image_id[:19]


class Attempt(models.Model):
    """One time somebody asked for an environment version to be runnable: when, who, how long, and what came of it."""

    version = models.ForeignKey(EnvironmentVersion, on_delete=models.CASCADE, related_name="attempts")
    build = models.ForeignKey(Build, null=True, on_delete=models.SET_NULL, related_name="attempts")
    operation = models.ForeignKey(Operation, null=True, on_delete=models.SET_NULL, related_name="+")
    driver = models.CharField(max_length=20)
    image_id = models.CharField(max_length=80, blank=True)
    outcome = models.CharField(max_length=16, choices=Outcome.choices, default=Outcome.RUNNING)
    error = models.JSONField(null=True)
    started_at = models.DateTimeField(auto_now_add=True)
    seconds = models.FloatField(null=True)

    class Meta:
        ordering = ["-started_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.version} {self.outcome}"

    @property
    def tone(self) -> str:
        return Outcome(self.outcome).tone


class Package(models.Model):
    """What makes an environment version a package: a model and its server along with it.

    The version has a copy of what its base environment is made of, so a package needs nothing but itself.
    """

    environment = models.OneToOneField(
        EnvironmentVersion, on_delete=models.CASCADE, primary_key=True, related_name="package"
    )
    model = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="packages")
    base = models.ForeignKey(
        EnvironmentVersion,
        null=True,
        on_delete=models.SET_NULL,
        related_name="packages",
        help_text="what it was made from; empty: what the model declares, or what its server needs",
    )
    code = models.ForeignKey(CodeVersion, null=True, on_delete=models.PROTECT, related_name="packages")
    scoring_script = models.CharField(max_length=500, blank=True)
    server = models.CharField(max_length=16, choices=PackageServer.choices, default=PackageServer.AZUREML_ONLINE)
    mode = models.CharField(max_length=10, choices=ModelMode.choices, default=ModelMode.DOWNLOAD)
    mount_path = models.CharField(max_length=300, blank=True)
    environment_variables = models.JSONField(default=dict, blank=True)
    lock = models.TextField(blank=True, help_text="what its environment came to, pinned")
    python = models.CharField(max_length=20, blank=True, help_text="the version the lock is for, e.g. 3.11.7")
    interpreter = models.CharField(
        max_length=300, blank=True, help_text="of an image without packages of ours: the Python in it"
    )
    image = models.ForeignKey(Build, null=True, on_delete=models.SET_NULL, related_name="packages")
    ready_at = models.DateTimeField(null=True, help_text="empty while it is being made: nobody can deploy it yet")

    def __str__(self) -> str:
        return str(self.environment)

    @property
    def copies(self) -> bool:
        return self.mode == ModelMode.COPY


def package_of(version: EnvironmentVersion | None) -> Package | None:
    """What a version packages, or None for an ordinary environment."""
    return getattr(version, "package", None)
