"""What the recipes of all servers have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.conf import settings
from django.utils.translation import gettext as _

from apps.builds.contract import OVERLAY, RUNTIME, code_folder, model_folder, script_variables
from apps.builds.domain import Runnable
from apps.core.errors import Problem
from apps.endpoints.contents import Contents
from apps.registry import storage
from apps.registry.scripts import root_of


@dataclass
class Parts:
    """A recipe in the making."""

    contents: Contents
    mounts: list[tuple[str, str]] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    def add_runtime(self, runnable: Runnable) -> str:
        """Our own files and the built packages; the path of the Python that runs them.

        Raises Problem "unsupported" when the image has no Python.
        """
        if runnable.python is None:
            reason = "there is no Python 3.10 or newer in it, and a scoring script needs one"
            hint = _("Take an image with Python, or give the environment of one that is a server an inference_config.")
            raise Problem("unsupported", what="This image", reason=reason, hint=hint, target="environmentId")
        self.mounts.append((str(settings.HANDOUT.runtime), RUNTIME))
        if runnable.path is not None:
            self.mounts.append((str(runnable.path), str(runnable.path)))
        return str(runnable.python)

    def add_overlay(self, runnable: Runnable) -> None:
        if runnable.overlay is not None:
            self.mounts.append((str(runnable.overlay), OVERLAY))
            self.env["PORTWAY_OVERLAY"] = OVERLAY

    def add_model(self) -> None:
        model = self.contents.model
        if model is not None:
            target = model_folder(model, self.contents.model_mount_path)
            self.mounts.append((str(storage.tree_path(model.tree_id)), target))
            self.env["AZUREML_MODEL_DIR"] = target

    def add_code(self) -> None:
        code = self.contents.code
        if code is not None:
            self.mounts.append((str(root_of(code)), code_folder(code)))
            self.env |= script_variables(code, self.contents.scoring_script)
