"""Datastores on the wire (wire 4, rows 3 to 5; 9.1)."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.policy import Permission, require
from apps.api import arm, artifacts, sas
from apps.api import serializers as shapes
from apps.api.views import PAGE, WorkspaceView, listing, number, one
from apps.core.errors import Problem
from apps.registry import blobs, datastores
from apps.registry.enums import DatastoreType
from apps.registry.models import Datastore as DatastoreRow
from apps.registry.queries import DEFAULT_DATASTORE, default_datastore

ANY = OpenApiTypes.OBJECT
WHERE = {
    DatastoreType.AZURE_BLOB: ("accountName", "containerName", "endpoint", "protocol", "prefix"),
    DatastoreType.S3: ("bucketName", "endpoint", "region", "prefix"),
    DatastoreType.LOCAL: ("root",),
}
SECRETS = ("accessKeyId", "key", "sasToken")


def facade(row: DatastoreRow) -> dict[str, Any]:
    """Where the SDK finds the default datastore: it makes https://{accountName}.blob.{endpoint} of this (wire 9.1)."""
    return {
        "datastoreType": DatastoreType.AZURE_BLOB,
        "accountName": f"{settings.HOST}:{settings.PORT}/{sas.ACCOUNT}",
        "containerName": blobs.container_of(row.workspace).name,
        "endpoint": sas.SUFFIX,
        "protocol": "https",
        "credentials": {"credentialsType": "Sas"},
    }


def show(row: DatastoreRow) -> dict[str, Any]:
    """Without any secret."""
    if row.is_default:
        where = facade(row)
    else:
        stored = datastores.stored_credentials(row)
        shown = {key: stored[key] for key in ("credentialsType", "accessKeyId") if key in stored}
        where = {"datastoreType": row.type, **row.settings, "credentials": shown}
    properties = {
        **where,
        "isDefault": row.is_default,
        "serviceDataAccessAuthIdentity": "None",
        "description": row.description,
        "tags": row.tags,
        "properties": row.properties,
    }
    return arm.resource(row.workspace, f"datastores/{row.name}", "datastores", row, properties)


class DatastoreView(WorkspaceView):
    def row(self, name: str) -> DatastoreRow:
        if name == DEFAULT_DATASTORE:
            default_datastore(self.workspace)
        rows = self.workspace.datastores.filter(name=name).select_related("workspace", "created_by")
        found: DatastoreRow = one(rows, "datastore", name)
        return found


class Datastores(DatastoreView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        """`isDefault` picks the default one or the others; `count` is the most that are shown."""
        rows = datastores.datastores_of(self.workspace)
        asked = request.query_params.get("isDefault", "").lower()
        if asked:
            rows = [each for each in rows if each.is_default == (asked == "true")]
        count = request.query_params.get("count", "")
        return listing(show(each) for each in rows[: number(count, "count", most=PAGE) if count else PAGE])


class Datastore(DatastoreView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, name: str, **_: Any) -> Response:
        if name == artifacts.STORE:
            properties = artifacts.facade(self.workspace)
            path = f"datastores/{name}"
            return Response(arm.resource(self.workspace, path, "datastores", self.workspace, properties))
        return Response(show(self.row(name)))

    @extend_schema(request=shapes.DatastoreBody, responses={200: ANY, 201: ANY})
    def put(self, request: Request, name: str, **_: Any) -> Response:
        given = self.valid(shapes.DatastoreBody, request.data)["properties"]
        type_ = DatastoreType(given["datastoreType"])
        for key in {each for words in WHERE.values() for each in words} - set(WHERE[type_]):
            if given.get(key):
                raise Problem("unknown-field", field=f"properties.{key}", target=f"properties.{key}")
        if given.get("isDefault"):
            reason = f"the default datastore is {DEFAULT_DATASTORE}"
            raise Problem("bad-field", field="isDefault", reason=reason, target="isDefault")
        row, new = datastores.save_datastore(
            workspace=self.workspace,
            name=name,
            type=type_,
            settings={key: given[key] for key in WHERE[type_] if given.get(key)},
            credentials=_credentials(given.get("credentials")),
            description=given.get("description") or "",
            tags=given.get("tags"),
            properties=given.get("properties"),
            actor=request.user,
        )
        return Response(show(row), status=201 if new else 200)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, name: str, **_: Any) -> Response:
        row = self.workspace.datastores.filter(name=name).first()
        if row is not None:
            datastores.delete_datastore(datastore=row, actor=request.user)
        return Response(status=204)


def _credentials(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    secrets = given.get("secrets") or {}
    flat = {"accessKeyId": given.get("accessKeyId"), "key": secrets.get("key"), "sasToken": secrets.get("sasToken")}
    return {"credentialsType": given["credentialsType"], **{key: value for key, value in flat.items() if value}}


class ListSecrets(DatastoreView):
    """The secrets of a datastore; for the default one a token that allows what the role does."""

    permissions: ClassVar[dict[str, Permission]] = {**WorkspaceView.permissions, "POST": Permission.READ}

    @extend_schema(request=shapes.SecretsBody, responses=ANY)
    def post(self, request: Request, name: str, **_: Any) -> Response:
        self.valid(shapes.SecretsBody, request.data)
        if name == artifacts.STORE:
            token = sas.token(artifacts.container_of(self.workspace), request.user)
            return Response({"secretsType": "Sas", "sasToken": token})
        row = self.row(name)
        if row.is_default:
            token = sas.token(blobs.container_of(self.workspace), request.user)
            return Response({"secretsType": "Sas", "sasToken": token})
        require(request.user, Permission.KEYS, self.workspace)
        found = datastores.secrets_of(row, actor=request.user)
        shown = {key: found[key] for key in SECRETS if key in found}
        return Response({"secretsType": found["credentialsType"], **shown})
