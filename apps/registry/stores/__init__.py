"""Where data lies: one class for each kind of place, all with the same few calls (`Store`)."""

from __future__ import annotations

import json
from typing import Any

from apps.registry.enums import DatastoreType
from apps.registry.models import Datastore
from apps.registry.stores.base import Store


def store_of(datastore: Datastore) -> Store:
    """The place behind a datastore. The clients of remote ones are imported when the first is used: they are large."""
    secrets: dict[str, Any] = json.loads(datastore.credentials) if datastore.credentials else {}
    if datastore.type == DatastoreType.S3:
        from apps.registry.stores.s3 import S3Store  # noqa: PLC0415

        return S3Store(datastore.name, datastore.settings, secrets)
    if datastore.type == DatastoreType.AZURE_BLOB:
        from apps.registry.stores.azure import AzureStore  # noqa: PLC0415

        return AzureStore(datastore.name, datastore.settings, secrets)
    from apps.registry.stores.local import LocalStore, root_of  # noqa: PLC0415

    return LocalStore(root_of(datastore))
