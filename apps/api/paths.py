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
    build builds log data datastores listSecrets batchEndpoints computes listNodes nodes preempt jobs cancel retry
    miniBatches stream logs outputs runs details children serviceinstances rundata schedules trigger startPendingUpload
    locations vmSizes dataversion batchGetResolvedUris
    """.split()
}
HEADS = {  # of a path → where its first fixed word stands
    "/subscriptions/": 1,
    "/api/v1/workspaces/": 3,
    "/mferp/managementfrontend/subscriptions/": 3,
    "/history/v1.0/subscriptions/": 3,
    "/data/v1.0/subscriptions/": 3,
}
FILES = {"logs", "outputs"}  # of a job: what follows is a path of the user's own


def canonical(path: str) -> str:
    """The path with its fixed words in our spelling; names, which stand between them, stay as they are.

    The SDK puts two slashes before some of its paths.
    """
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    lowered = path.lower()
    head = next((index for prefix, index in HEADS.items() if lowered.startswith(prefix)), None)
    if head is None:
        return path
    parts = path.split("/")
    for index in range(head, len(parts), 2):
        parts[index] = WORDS.get(parts[index].lower(), parts[index])
        if parts[index] in FILES:
            break
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
