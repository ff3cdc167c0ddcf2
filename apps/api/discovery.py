"""What the SDK asks before it knows us: cloud metadata, discovery, managed-identity tokens (wire 2.4, 8)."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET

from apps.accounts.domain import find_token
from apps.api.auth import mint
from apps.api.sas import SUFFIX
from apps.core.errors import Problem

CLOUD = "PortwayCloud"


@require_GET
def metadata(request: HttpRequest) -> JsonResponse:
    base = settings.BASE_URL
    cloud = {
        "name": CLOUD,
        "portal": "https://portal.portway.local",
        "authentication": {
            "loginEndpoint": f"{base}/adfs",
            "audiences": [base],
            "tenant": "adfs",
            "identityProvider": "ADFS",
        },
        "media": base,
        "graphAudience": base,
        "graph": base,
        "suffixes": {"storage": SUFFIX, "keyVaultDns": f"vault.{SUFFIX}", "acrLoginServer": f"acr.{SUFFIX}"},
        "batch": base,
        "resourceManager": base,
        "activeDirectoryDataLake": base,
    }
    if request.GET.get("api-version", "") >= "2022":
        return JsonResponse(cloud)
    return JsonResponse([cloud], safe=False)


@require_GET
def discovery(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 -- Django's signature
    base = settings.BASE_URL
    services = (
        "catalog",
        "experimentation",
        "gallery",
        "history",
        "hyperdrive",
        "labeling",
        "modelmanagement",
        "pipelines",
        "studio",
    )
    answer = {"api": f"{base}/", "notebooks": settings.HOST}  # the SDK appends to "api" without a slash of its own
    return JsonResponse(answer | dict.fromkeys(services, base))


@require_GET
def identity_token(request: HttpRequest) -> JsonResponse:
    """The managed-identity endpoint: the header holds a personal access token, the answer a signed one."""
    found = find_token(request.headers.get("X-Identity-Header", ""))
    if found is None:
        return JsonResponse(Problem("unauthenticated").as_envelope(), status=401)
    resource = request.GET.get("resource") or settings.BASE_URL
    token, expires = mint(found, resource=resource)
    return JsonResponse(
        {"access_token": token, "expires_on": str(expires), "resource": resource, "token_type": "Bearer"}
    )
