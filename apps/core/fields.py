"""A text column that is encrypted at rest."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.db import models


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())) for key in keys])


def cipher() -> MultiFernet:
    """The first of `ENCRYPTION_KEYS` encrypts, every one decrypts, so keys can be rotated."""
    return _cipher(tuple(settings.ENCRYPTION_KEYS))


class EncryptedTextField(models.TextField):
    """Fernet over UTF-8. Cannot be filtered on. Reading raises InvalidToken when no key fits."""

    def from_db_value(self, value: str | None, *_args: Any) -> str | None:
        return None if value is None else cipher().decrypt(value.encode()).decode()

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else cipher().encrypt(str(value).encode()).decode()
