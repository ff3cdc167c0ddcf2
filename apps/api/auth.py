"""Who calls: a personal access token, or a signed token that our own token endpoint made from one."""

from __future__ import annotations

import time
import uuid
from typing import Any

import jwt
from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from apps.accounts.domain import TOKEN_PREFIX, good_tokens, user_of_token
from apps.accounts.models import PersonalToken, User
from apps.accounts.policy import Permission, workspaces_with
from apps.gateway import domain as gateway

TENANT = "00000000-0000-0000-0000-00000000000a"
ISSUER = "portway-control"
SIGNED_S = 3600
SCORING = "https://ml.azure.com"  # the audience of tokens for online endpoints with authMode AADToken
MOST_WORKSPACES = 200  # in one token


def mint(made_from: PersonalToken, *, resource: str) -> tuple[str, int]:
    """(token, epoch second of its end): a JWT the SDK accepts, with the audience it asked for (wire 7).

    It is good for as long as the personal access token it was made from: revoking that one ends both. For scoring it
    is good for its hour: the gateway asks nobody.
    """
    user = made_from.user
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": resource,
        "tid": TENANT,
        "oid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"portway-user-{user.pk}")),
        "sub": str(user.pk),
        "pat": made_from.pk,
        "iat": now,
        "nbf": now - 5,
        "exp": now + SIGNED_S,
    }
    if resource == SCORING:  # the gateway, which asks nobody, has to see where its user may score
        claims |= {"iss": gateway.ISSUER, "sub": user.get_username(), "workspaces": _scored_by(user)}
        return gateway.sign(claims), now + SIGNED_S
    return jwt.encode(claims, settings.SECRET_KEY, algorithm="HS256"), now + SIGNED_S


def _scored_by(user: User) -> list[str]:
    rows = workspaces_with(user, Permission.SCORE).order_by("name")
    return list(rows.values_list("name", flat=True)[:MOST_WORKSPACES])


def user_of_jwt(token: str) -> User | None:
    try:
        claims = _claims(token)
    except jwt.InvalidTokenError:
        return None
    row = good_tokens().filter(pk=claims["pat"]).first()
    return row.user if row is not None else None


def _claims(token: str) -> dict[str, Any]:
    """Of a token that `mint` made; the gateway's other tokens name no personal one. Raises jwt.InvalidTokenError."""
    if jwt.get_unverified_header(token).get("alg") == "RS256":
        return gateway.claims_of(token, require=["pat"])
    options: Any = {"verify_aud": False, "require": ["exp", "sub", "pat"]}
    found: dict[str, Any] = jwt.decode(token, settings.SECRET_KEY, algorithms=["HS256"], issuer=ISSUER, options=options)
    return found


def user_of_bearer(token: str) -> User | None:
    """The user of a bearer token of either kind; None when it is not good."""
    return user_of_token(token) if token.startswith(TOKEN_PREFIX) else user_of_jwt(token)


class BearerAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, str] | None:
        words = get_authorization_header(request).decode("latin-1").split()
        if not words or words[0].lower() != "bearer":
            return None
        user = user_of_bearer(words[1]) if len(words) == 2 else None  # noqa: PLR2004
        if user is None:
            raise AuthenticationFailed
        return user, words[1]

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = BearerAuthentication
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
