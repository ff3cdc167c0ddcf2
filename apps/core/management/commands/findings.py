from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core import health


class Command(BaseCommand):
    help = "What is so beside the parts: container engine, worker hosts, work that waits. `portway doctor` runs it."
    requires_system_checks = ()  # they load every URL: a second of each start

    def handle(self, *_args: Any, **_options: Any) -> None:
        found = health.findings()
        for each in found:
            word = {"ok": "ok", "idle": "--", "degraded": "WARN"}.get(each.tone, "FAIL")
            self.stdout.write(f"  {word:<4} {each.name} {each.text} {'' if each.fine else each.advice}".rstrip())
        if not all(each.fine for each in found):
            raise CommandError("Something beside the parts needs a look.", returncode=1)
