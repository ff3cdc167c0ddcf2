"""Reading a JSON body without letting it take the process down."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from apps.core.errors import Problem


class BoundedJSONParser(JSONParser):
    """JSON of bounded size and depth, with texts that every database and every answer can hold."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise Problem("upload-too-large", limit=f"{limit // 2**20} MiB")
        try:
            data = super().parse(io.BytesIO(body), media_type, parser_context)
        except RecursionError:
            raise ParseError("it is nested too deeply") from None
        for text in _texts(data):
            if "\x00" in text or any("\ud800" <= each <= "\udfff" for each in text):
                raise ParseError("it holds a NUL character or half a surrogate pair")
        return data


def _texts(data: Any) -> Iterator[str]:
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
