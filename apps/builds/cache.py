"""Where uv keeps what it downloaded."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from apps.builds import uv


def cache_folder() -> Path:
    """Ours, for builds by what the operator chose. Asks uv when the settings name no folder."""
    if settings.UV_CACHE_DIR:
        return Path(settings.UV_CACHE_DIR)
    told = uv.run(["cache", "dir"], cache="", timeout_s=10.0, log=lambda _line: None, check=lambda: None)
    return Path(told.strip())


def apart() -> Path:
    """The folder of the caches of images that somebody else chose, one for each.

    What such an image puts into its cache only ever reaches environments of the same image.
    """
    return Path(settings.HOME.environments) / "caches"
