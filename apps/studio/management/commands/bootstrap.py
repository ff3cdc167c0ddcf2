from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.utils import OperationalError

from apps.accounts import domain as accounts
from apps.accounts.models import PersonalToken, User, Workspace
from apps.compute import domain as compute
from apps.endpoints.reconcile import repair_replicas
from apps.gateway import domain as gateway
from apps.gateway.certificates import ensure_certificates
from cli.home import env_secret

ATTEMPTS = 3


class Command(BaseCommand):
    help = "Make everything a start needs: tables, certificates, the administrator, the workspace `default`."
    requires_system_checks = ()  # they load every URL: a second of each start

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--demo", type=Path, help="then set up the demo with the models trained in this folder")
        parser.add_argument("--leave-replicas", action="store_true", help="the controller alone starts replicas")

    def handle(self, *_args: Any, demo: Path | None = None, leave_replicas: bool = False, **_options: Any) -> None:
        try:
            call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        except OperationalError as error:
            raise CommandError(f"the database cannot be used: {str(error).splitlines()[0]}") from error
        compute.seed_instance_types()
        compute.seed_targets()
        report: dict[str, Any] = {}
        if not User.objects.filter(username="admin").exists():
            password = env_secret("PORTWAY_ADMIN_PASSWORD") or secrets.token_urlsafe(12)
            accounts.ensure_admin(password=password)
            report["admin_password"] = password
        admin = User.objects.get(username="admin")
        if not Workspace.objects.filter(name="default").exists():
            accounts.create_workspace(name="default", actor=admin, display_name="Default")
        self._sdk_token(admin)
        home = settings.HOME
        ensure_certificates(home.gateway / "certs", ca_pem=home.ca, extra_names=[settings.HOST])
        gateway.write_bootstrap()
        if not leave_replicas:
            repair_replicas()  # they take longest to start, so they go first; the controller takes over
        self.stdout.write(json.dumps(report))
        self.stdout.flush()
        if demo:  # in this process: another one would import everything again while all parts do so too
            call_command("demo", demo, stdout=self.stderr)

    def _sdk_token(self, admin: User) -> None:
        """The token `portway sdk-env` prints: readable only by the user who runs Portway."""
        path = settings.HOME.secrets / "sdk-token"
        if path.exists() and accounts.user_of_token(path.read_text()):
            return
        PersonalToken.objects.filter(user=admin, name="portway sdk-env").delete()
        path.unlink(missing_ok=True)
        _, token = accounts.create_token(user=admin, name="portway sdk-env")
        settings.HOME.write_secret("sdk-token", token.encode())
