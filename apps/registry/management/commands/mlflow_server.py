from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.registry.mlflow_server import argv, environment


class Command(BaseCommand):
    help = "Become the MLflow server, on its own socket below /mlflow."
    requires_system_checks = ()  # they load every URL: a second of each start

    def handle(self, *_args: Any, **_options: Any) -> None:
        command = argv(settings.HOME)
        os.execve(command[0], command, environment(settings.HOME))  # noqa: S606 -- the supervisor watches this pid
