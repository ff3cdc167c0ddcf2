"""The engine as tests drive it: domain verbs, operations run on the spot, requests through the real gateway."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path

from django.conf import settings

from apps.accounts.models import Membership, User, Workspace
from apps.compute import domain as compute
from apps.compute.models import ReplicaSet
from apps.core import operations
from apps.core.models import Operation, OperationState
from apps.endpoints import domain
from apps.endpoints.domain import DeploymentSpec, EndpointSpec
from apps.endpoints.models import OnlineEndpoint
from apps.gateway import domain as gateway
from apps.registry import storage
from apps.registry.domain import register_code, register_environment

PLAIN = "dependencies: [python=3.11]\n"
ECHO = "def init():\n    pass\n\ndef run(data):\n    return {'echo': data}\n"


class World:
    def __init__(self):
        gateway.forget_publication()
        compute.driver.cache_clear()
        compute.seed_instance_types()
        compute.seed_targets()
        self.workspace = Workspace.objects.create(name="lab")
        self.actor = User.objects.create_user(username="olga", password="a long password")
        Membership.objects.create(user=self.actor, workspace=self.workspace, role="owner")

    def clean(self):
        """Stop every replica, so that the next test starts with none."""
        for name in {each.driver for each in ReplicaSet.objects.all()} | {settings.DEFAULT_DRIVER}:
            driver = compute.driver(name)
            for handle in driver.list(owner=compute.OWNER):
                driver.stop(handle, grace_s=0.5)
                driver.forget(handle)

    def run(self, operation):
        """Run one operation to its end here and now; fails the test unless it succeeds."""
        operations.run(operation.pk)
        operation.refresh_from_db()
        assert operation.state == OperationState.SUCCEEDED, operation.error
        return operation

    def run_failing(self, operation):
        operations.run(operation.pk)
        operation.refresh_from_db()
        assert operation.state != OperationState.SUCCEEDED
        return operation.error

    def run_all(self):
        for operation in Operation.objects.filter(state=OperationState.QUEUED).order_by("created_at"):
            operations.run(operation.pk)

    def endpoint(self, name="iris", **spec):
        endpoint, operation = domain.create_endpoint(
            workspace=self.workspace, name=name, spec=EndpointSpec(**spec), actor=self.actor
        )
        self.run(operation)
        endpoint.refresh_from_db()
        return endpoint

    def spec(self, script=ECHO, **changes):
        """A deployment of a scoring script in an environment without packages."""
        with storage.scratch() as folder:
            (folder / "score.py").write_text(script)
            tree = storage.adopt(folder)
        code, _ = register_code(workspace=self.workspace, name="code", tree=tree, actor=self.actor)
        environment, _ = register_environment(
            workspace=self.workspace, name="plain", version="1", conda_file=PLAIN, actor=self.actor
        )
        return DeploymentSpec(**{"code": code, "scoring_script": "score.py", "environment": environment} | changes)

    def deploy(self, endpoint, name="blue", spec=None, **changes):
        spec = spec or self.spec(**changes)
        deployment, operation = domain.create_deployment(endpoint=endpoint, name=name, spec=spec, actor=self.actor)
        self.run(operation)
        deployment.refresh_from_db()
        return deployment

    def traffic(self, endpoint, mirror=None, **traffic):
        spec = EndpointSpec(traffic=traffic, mirror_traffic=mirror or {})
        return self.run(domain.update_endpoint(endpoint=endpoint, spec=spec, actor=self.actor))

    def key(self, name="iris"):
        return gateway.keys_of(name)["primary"]

    def score(self, name="iris", body=None, key=None, path="/score", **headers):
        """(status, headers, parsed body) of a request through the gateway."""
        context = ssl.create_default_context(cafile=str(settings.HOME.ca))
        link = http.client.HTTPSConnection("localhost", settings.PORT, timeout=30, context=context)
        key = self.key(name) if key is None else key
        sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        sent |= {header.replace("_", "-"): value for header, value in headers.items()}
        try:
            link.request("POST", f"/e/{name}{path}", json.dumps(body), sent)
            answer = link.getresponse()
            text = answer.read()
            try:
                return answer.status, answer.headers, json.loads(text)
            except ValueError:
                return answer.status, answer.headers, text.decode()
        finally:
            link.close()

    def fresh_named(self, name):
        return OnlineEndpoint.objects.get(name=name)

    def fresh(self, endpoint):
        return OnlineEndpoint.objects.get(pk=endpoint.pk)


def tree_of(**files):
    """A stored tree with these text files; `__` in a name stands for `/` and a trailing `_py` for `.py`."""
    with storage.scratch() as folder:
        for name, text in files.items():
            path = folder / Path(name.replace("__", "/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return storage.adopt(folder)
