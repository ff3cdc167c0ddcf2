"""ARM paths match whatever their case (wire 3.1): the fixed words are brought to our spelling before routing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest

WORDS = {
    word.lower(): word
    for word in """
    subscriptions resourceGroups providers Microsoft.MachineLearningServices workspaces onlineEndpoints deployments
    models environments codes versions operations requests uploads listKeys regenerateKeys token metrics getLogs skus
    build builds log data datastores listSecrets
    """.split()
}
ARM_PREFIX, SHORT_PREFIX = "/subscriptions/", "/api/v1/workspaces/"


def canonical(path: str) -> str:
    """The path with its fixed words in our spelling; names, which stand between them, stay as they are."""
    lowered = path.lower()
    if lowered.startswith(ARM_PREFIX):
        head = 1
    elif lowered.startswith(SHORT_PREFIX):
        head = 3
    else:
        return path
    parts = path.split("/")
    for index in range(head, len(parts), 2):
        parts[index] = WORDS.get(parts[index].lower(), parts[index])
    return "/".join(parts)


class CanonicalPaths:
    """Middleware around `canonical`."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        request.path_info = canonical(request.path_info)
        return self.get_response(request)
