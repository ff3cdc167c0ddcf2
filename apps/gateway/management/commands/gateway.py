from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand

from apps.gateway import domain, envoy


class Command(BaseCommand):
    help = "Become Envoy, on the configuration last published. Needs no database."
    requires_system_checks = ()  # they load every URL: a second of each start

    def handle(self, *_args: Any, **_options: Any) -> None:
        argv = envoy.envoy_argv(domain.front())
        os.execv(argv[0], argv)  # noqa: S606 -- the supervisor watches this pid
