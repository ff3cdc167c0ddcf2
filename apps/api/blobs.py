"""The blob store that the SDK sends files to and fetches them from (wire 9): the operations it uses, no others."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any, BinaryIO
from urllib.parse import quote
from xml.sax.saxutils import escape

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from apps.api import sas
from apps.api.errors import problem_of
from apps.api.job_files import harmless
from apps.api.views import number
from apps.registry import blobs
from apps.registry.blobs import Blob, Container, Listing

LARGEST = 128 * 2**20  # of one request; the SDK sends larger files in pieces
LARGEST_LIST = 10 * 2**20
PAGE = 5000
SERVER_ERROR = 500
PIECE = 2**18
MOST_DOWNLOAD_S = 3600.0
RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
BLOCK = re.compile(rf"<(Latest|Uncommitted|Committed)>({blobs.BLOCK.pattern})</\1>")
# nothing in it can match the same text in two ways, so no text makes it slow
BLOCKS = re.compile(rf"(?:<\?xml[^<>]*\?>\s*)?<BlockList(?:\s*/>|>(?:\s*{BLOCK.pattern})*\s*</BlockList>)")
NOTED = "x-ms-meta-"
NOTE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
UNFIT = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # for XML
CODES = {  # of a problem → in the words of Azure's storage
    "upload-too-large": "RequestBodyTooLarge",
    "not-found": "InvalidBlockList",
}


class Refused(Exception):  # noqa: N818 -- an answer, not a defect
    def __init__(self, status: int, code: str, message: str = "") -> None:
        self.status, self.code, self.message = status, code, message or code
        super().__init__(code)


def _no_blob() -> Refused:
    return Refused(404, "BlobNotFound", "There is no such blob.")


@method_decorator(csrf_exempt, name="dispatch")  # no cookie counts here: the signature in the address does
class Blobs(View):
    http_method_names = ["get", "head", "put"]
    container: Container

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            self.container = self._container(kwargs.pop("container"), request)
            answer = super().dispatch(request, *args, blob=kwargs.get("blob", ""))
        except Refused as refused:
            answer = _refusal(refused)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise
            status = problem.entry.status
            code = CODES.get(problem.code) or ("ServerBusy" if status >= SERVER_ERROR else "InvalidInput")
            answer = _refusal(Refused(status, code, problem.message))
        answer.headers["x-ms-version"] = request.headers.get("x-ms-version", sas.VERSION)[:20]
        answer.headers["x-ms-request-id"] = request.headers.get("x-request-id", "")
        return answer

    def _container(self, name: str, request: HttpRequest) -> Container:
        return self._allowed(blobs.container_named(name), name, request)

    def _allowed(self, found: Container | None, name: str, request: HttpRequest) -> Container:
        if found is None or not sas.allows(request.GET, name, found.workspace, writing=request.method == "PUT"):
            message = "The signature is not valid here, has expired, or your role in the workspace does not allow this."
            raise Refused(403, "AuthenticationFailed", message)
        return found

    # -- reading

    def head(self, request: HttpRequest, blob: str) -> HttpResponse:
        answer = HttpResponse()
        if blob:
            found = self._found(blob)
            _describe(answer, found)
            answer.headers["Content-Length"] = str(found.size)
        return answer

    def get(self, request: HttpRequest, blob: str) -> HttpResponseBase:
        if not blob:
            return self._list(request) if request.GET.get("comp") == "list" else HttpResponse()
        pair = self._opened(blob)
        if pair is None:
            raise _no_blob()
        found, stream = pair
        try:
            start, end, ranged = _range(request, found)
            stream.seek(start)
        except Refused:
            stream.close()
            raise
        answer = StreamingHttpResponse(_sent(stream, end - start), status=206 if ranged else 200)
        _describe(answer, found)
        answer.headers["Content-Length"] = str(end - start)
        if ranged:
            answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
        sent: HttpResponseBase = harmless(answer)
        return sent

    def _found(self, blob: str) -> Blob:
        found = self._find(blob)
        if found is None:
            raise _no_blob()
        return found

    def _find(self, blob: str) -> Blob | None:
        return blobs.find(self.container, blob)

    def _opened(self, blob: str) -> tuple[Blob, BinaryIO] | None:
        return blobs.opened(self.container, blob)

    def _page(self, prefix: str, *, nested: bool, after: str, most: int) -> Listing:
        return blobs.listing(self.container, prefix, nested=nested, after=after, most=most)

    def _list(self, request: HttpRequest) -> HttpResponse:
        prefix, asked = request.GET.get("prefix", ""), request.GET.get("maxresults", "")
        most = min(PAGE, max(1, number(asked, "maxresults", most=PAGE))) if asked else PAGE
        nested = request.GET.get("delimiter", "") != "/"
        page = self._page(prefix, nested=nested, after=request.GET.get("marker", ""), most=most)
        folders = (f"<BlobPrefix>{_name(each)}</BlobPrefix>" for each in page.folders)
        files = (_listed(each, metadata="metadata" in request.GET.get("include", "")) for each in page.blobs)
        service = f"{settings.BASE_URL}/{sas.ACCOUNT}.blob.{sas.SUFFIX}/"
        text = (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="{escape(service)}" '
            f'ContainerName="{escape(self.container.name)}"><Prefix>{escape(UNFIT.sub("", prefix))}</Prefix>'
            f"<Blobs>{''.join(folders)}{''.join(files)}</Blobs>"
            f"<NextMarker>{escape(page.following)}</NextMarker></EnumerationResults>"
        )
        return HttpResponse(text, content_type="application/xml")

    # -- writing

    def put(self, request: HttpRequest, blob: str) -> HttpResponse:
        size = request.headers.get("Content-Length", "")
        if not size.isdigit():
            raise Refused(411, "MissingContentLengthHeader", "Say how long the body is.")
        if int(size) > LARGEST:
            raise Refused(
                413, "RequestBodyTooLarge", f"Send at most {LARGEST // 2**20} MiB at once, and the rest in blocks."
            )
        noted = _noted(request)
        if not blob or not all(NOTE_NAME.fullmatch(key) for key in noted):
            raise Refused(400, "InvalidInput", "Name a blob; names of metadata have letters, digits and underscores.")
        new = request.headers.get("If-None-Match") == "*"
        match request.GET.get("comp", ""):
            case "":
                if request.headers.get("x-ms-blob-type", "BlockBlob") != "BlockBlob":
                    raise Refused(400, "InvalidBlobType", "Only block blobs are kept here.")
                return _written(blobs.write(self.container, blob, request, new=new, metadata=noted))
            case "block":
                blobs.stage(self.container, blob, request.GET.get("blockid", ""), request)
                return HttpResponse(status=201)
            case "blocklist":
                return _written(blobs.commit(self.container, blob, _blocks(request), new=new, metadata=noted))
            case "metadata":
                found = blobs.describe(self.container, blob, noted)
                if found is None:
                    raise _no_blob()
                return _written(found, status=200)
            case other:
                raise Refused(400, "UnsupportedQueryParameter", f"comp={other[:50]} is not served here.")


def _noted(request: HttpRequest) -> dict[str, str]:
    """Metadata. Its names have no dashes in Azure, but Django writes an underscore as one."""
    headers = ((key.lower(), value) for key, value in request.headers.items())
    return {key.removeprefix(NOTED).replace("-", "_"): value for key, value in headers if key.startswith(NOTED)}


def _blocks(request: HttpRequest) -> list[str]:
    """The names of a list of blocks. Its shape is fixed, so no parser that hostile XML could burden is needed."""
    text = request.read(LARGEST_LIST + 1).decode("utf-8", "replace").strip()
    if len(text) > LARGEST_LIST or not BLOCKS.fullmatch(text):
        raise Refused(400, "InvalidXmlDocument", "This is no list of blocks.")
    return [match[2] for match in BLOCK.finditer(text)]


def _written(blob: Blob | None, *, status: int = 201) -> HttpResponse:
    if blob is None:
        raise Refused(409, "BlobAlreadyExists", "There is a blob of this name; nothing is overwritten.")
    answer = HttpResponse(status=status)
    answer.headers["ETag"] = blob.etag
    answer.headers["Last-Modified"] = formatdate(blob.modified, usegmt=True)
    answer.headers["x-ms-request-server-encrypted"] = "false"
    return answer


def _describe(answer: HttpResponseBase, blob: Blob) -> None:
    answer.headers["Content-Type"] = "application/octet-stream"
    answer.headers["ETag"] = blob.etag
    answer.headers["Last-Modified"] = formatdate(blob.modified, usegmt=True)
    answer.headers["Accept-Ranges"] = "bytes"
    answer.headers["x-ms-blob-type"] = "BlockBlob"
    for key, value in blob.metadata.items():
        answer.headers[NOTED + key] = value


def _range(request: HttpRequest, blob: Blob) -> tuple[int, int, bool]:
    """(first byte, the one after the last, whether it is a part); of the version that the caller names, if any."""
    size = blob.size
    if request.headers.get("If-Match", blob.etag) not in {blob.etag, "*"}:
        raise Refused(412, "ConditionNotMet", "The blob was replaced meanwhile.")
    asked = request.headers.get("x-ms-range") or request.headers.get("Range") or ""
    match = RANGE.fullmatch(asked)
    if match is None or (match[2] and int(match[2]) < int(match[1])):
        return 0, size, False
    start = int(match[1])
    if start >= size:
        raise Refused(416, "InvalidRange", "The blob is shorter.")
    return start, min(size, int(match[2]) + 1) if match[2] else size, True


async def _sent(stream: BinaryIO, left: int) -> AsyncIterator[bytes]:
    """Under ASGI Django would collect a plain iterator whole before it sends a byte of it."""
    deadline = time.monotonic() + MOST_DOWNLOAD_S
    try:
        while left > 0 and (piece := await sync_to_async(stream.read, thread_sensitive=False)(min(PIECE, left))):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not sent within {MOST_DOWNLOAD_S:.0f} s")
            left -= len(piece)
            yield piece
    finally:
        await sync_to_async(stream.close, thread_sensitive=False)()


def _listed(blob: Blob, *, metadata: bool) -> str:
    noted = "".join(f"<{key}>{escape(UNFIT.sub('', value))}</{key}>" for key, value in blob.metadata.items())
    return (
        f"<Blob>{_name(blob.name)}<Properties><Last-Modified>{formatdate(blob.modified, usegmt=True)}</Last-Modified>"
        f"<Etag>{escape(blob.etag)}</Etag><Content-Length>{blob.size}</Content-Length>"
        "<Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType></Properties>"
        f"{f'<Metadata>{noted}</Metadata>' if metadata else ''}</Blob>"
    )


def _name(name: str) -> str:
    if UNFIT.search(name):
        return f'<Name Encoded="true">{quote(name)}</Name>'
    return f"<Name>{escape(name)}</Name>"


def _refusal(refused: Refused) -> HttpResponse:
    message = escape(UNFIT.sub("", refused.message))
    text = (
        f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{refused.code}</Code><Message>{message}</Message></Error>'
    )
    answer = HttpResponse(text, status=refused.status, content_type="application/xml")
    answer.headers["x-ms-error-code"] = refused.code
    return answer
