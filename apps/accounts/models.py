"""Users, workspaces, who may do what in which, and personal access tokens."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """A person or a robot that signs in. `is_superuser` stands for the operator of the installation."""


def default_subscription() -> str:
    return settings.SUBSCRIPTION_ID


def default_resource_group() -> str:
    return settings.RESOURCE_GROUP


class Workspace(models.Model):
    """The unit of ownership: what one workspace owns another cannot see."""

    name = models.CharField(
        max_length=33,
        unique=True,
        validators=[RegexValidator(r"^[a-zA-Z0-9][\w-]{2,32}$", _("3 to 33 letters, digits, - or _"))],
    )
    display_name = models.CharField(max_length=100, blank=True)
    description = models.TextField(blank=True)
    subscription_id = models.CharField(max_length=36, default=default_subscription)
    resource_group = models.CharField(max_length=90, default=default_resource_group)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def arm_id(self) -> str:
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )


class Role(models.TextChoices):
    OWNER = "owner", _("Owner")
    CONTRIBUTOR = "contributor", _("Contributor")
    DATA_SCIENTIST = "data-scientist", _("Data Scientist")
    READER = "reader", _("Reader")


class Membership(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=Role.choices)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "workspace"], name="one_role_per_workspace")]

    def __str__(self) -> str:
        return f"{self.user} {self.role} {self.workspace}"


class PersonalToken(models.Model):
    """A bearer token of a user. Only its digest is kept; the token itself is shown once."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=60)
    digest = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=12, help_text="its first characters, to tell tokens apart")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"
