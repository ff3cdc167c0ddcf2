"""What people type, parsed."""

from apps.studio.forms.assets import ContextForm, EnvironmentForm, ModelForm, ProfileForm, RunForm, TokenForm
from apps.studio.forms.packages import PackageForm, routes_of
from apps.studio.forms.serving import (
    EXISTING,
    NEW,
    DeployForm,
    DeploymentEditForm,
    EndpointEditForm,
    EndpointForm,
    ScaleForm,
    initial_of,
)

__all__ = [
    "EXISTING",
    "NEW",
    "ContextForm",
    "DeployForm",
    "DeploymentEditForm",
    "EndpointEditForm",
    "EndpointForm",
    "EnvironmentForm",
    "ModelForm",
    "PackageForm",
    "ProfileForm",
    "RunForm",
    "ScaleForm",
    "TokenForm",
    "initial_of",
    "routes_of",
]
