"""Pages with a form that takes code."""

from __future__ import annotations

from typing import Any

from apps.registry import uploads
from apps.registry.domain import register_code
from apps.registry.models import CodeVersion, Upload
from apps.studio.views import FormPage


class CodePage(FormPage):
    """The form's field `code` has the files: one zip archive, or any number of files."""

    def received_code(self, data: dict[str, Any]) -> Upload | None:
        """The code files in the store. Not in a transaction: they may be large; unused they are collected in a day."""
        files = data["code"]
        if not files:
            return None
        archive = files[0] if len(files) == 1 and files[0].name.lower().endswith(".zip") else None
        return uploads.receive(
            workspace=self.workspace,
            archive=archive,
            files=[] if archive else files,
            paths=[],
            actor=self.request.user,
        )

    def code_of(self, upload: Upload, name: str) -> CodeVersion:
        """A version of the code; in the transaction of what uses it."""
        version, _new = register_code(
            workspace=self.workspace, name=name, tree=upload.tree, path=upload.path, actor=self.request.user
        )
        return version
