"""Batch work as tests drive it: rows by the domain's verbs, one real agent in a thread, files in the default store."""

from __future__ import annotations

import threading
import time

from django.conf import settings
from django.db import connection

from apps.batch import domain
from apps.batch.engine import nodes, pipeline
from apps.batch.engine.agent import Agent
from apps.batch.engine.launch import OWNER
from apps.batch.enums import JobState, ProvisioningState
from apps.batch.models import BatchDeployment, BatchEndpoint, Cluster, Job
from apps.compute import domain as compute
from apps.core import operations
from apps.core.models import Operation, OperationState
from apps.registry import storage
from apps.registry.domain import register_code, register_environment
from tests.world import PLAIN

NAMES = "def init(): pass\ndef run(files): return [__import__('os').path.basename(f) for f in files]\n"
DEADLINE_S = 90.0


class Gate:
    """Holds a job's files but the first two until it is opened, so that no test has to be quicker than its job."""

    LONGEST_S = 300
    script = f"""
import os, time
def init(): pass
def run(files):
    folder, name = os.path.split(files[0])
    end = time.monotonic() + {LONGEST_S}
    while name > "f000001.txt" and not os.path.exists(os.path.join(folder, "gate")):
        assert time.monotonic() < end
        time.sleep(0.05)
    return files
"""

    def __init__(self, folder):
        """`folder`: where the files are; a job's worker sees nothing else."""
        self.folder = folder

    def open(self):
        (self.folder / "gate").touch()


class BatchWorld:
    """`inner`: the world of online tests, for its workspace and people."""

    def __init__(self, inner):
        self.inner = inner
        self.workspace, self.actor = inner.workspace, inner.actor
        self.agents = []

    # -- what there is

    @property
    def blobs(self):
        return settings.HOME.artifacts / "blobs" / str(self.workspace.pk)

    def files(self, count, *, folder="in", text="{number}\n", suffix=".txt"):
        """`count` small files in a folder of the default store; its URI."""
        path = self.blobs / folder
        path.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (path / f"f{number:06d}{suffix}").write_text(text.format(number=number))
        return self.uri(folder)

    def uri(self, path):
        return f"azureml://datastores/workspaceblobstore/paths/{path}"

    def gate(self):
        return Gate(self.blobs / "in")

    def cluster(self, name="cpu", **values):
        values = {"instance_type": "small", "max_nodes": 2, "idle_s": 1, "workspace": self.workspace} | values
        return Cluster.objects.create(name=name, **values)

    def code(self, script=NAMES):
        with storage.scratch() as folder:
            (folder / "score.py").write_text(script)
            tree = storage.adopt(folder)
        return register_code(workspace=self.workspace, name="code", tree=tree, actor=self.actor)[0]

    def environment(self):
        return register_environment(
            workspace=self.workspace, name="plain", version="1", conda_file=PLAIN, actor=self.actor
        )[0]

    def deployment(self, script=NAMES, *, name="blue", endpoint="forests", cluster=None, **values):
        parent, _made = BatchEndpoint.objects.get_or_create(
            name=endpoint, workspace=self.workspace, defaults={"state": ProvisioningState.SUCCEEDED}
        )
        values = {"mini_batch_size": 1, "max_retries": 0, "state": ProvisioningState.SUCCEEDED} | values
        if script is not None:
            values |= {"code": self.code(script), "scoring_script": "score.py", "environment": self.environment()}
        cluster = cluster or Cluster.objects.filter(workspace=self.workspace).first() or self.cluster()
        made = BatchDeployment.objects.create(endpoint=parent, name=name, cluster=cluster, **values)
        BatchEndpoint.objects.filter(pk=parent.pk, default_deployment=None).update(default_deployment=made)
        return made

    # -- what happens

    def submit(self, uri, *, endpoint="forests", deployment="", kind="UriFolder", request_id="", **overrides):
        spec = domain.JobSpec(inputs={"data": {"type": kind, "uri": uri}}, overrides=overrides)
        found = BatchEndpoint.objects.get(name=endpoint)
        job, _new = domain.invoke(
            endpoint=found, deployment=deployment, spec=spec, actor=self.actor, request_id=request_id
        )
        return job

    def agent(self, name="here"):
        """An agent of a host of that name, in a thread of its own."""
        agent = Agent(name)
        thread = threading.Thread(target=agent.run, daemon=True)
        thread.start()
        self.agents.append((agent, thread))
        return agent

    def turn(self):
        """What the controller and the workers do, once."""
        for operation in Operation.objects.filter(state=OperationState.QUEUED).order_by("created_at"):
            operations.run(operation.pk)
        pipeline.sweep()
        nodes.schedule()
        for agent, _thread in self.agents:
            agent.wake.set()

    def until(self, condition, *, seconds=DEADLINE_S):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.turn()
            if value := condition():
                return value
            time.sleep(0.02)
        raise AssertionError(f"not so within {seconds} s")

    def ended(self, job, *, seconds=DEADLINE_S):
        """The job as it ended."""
        try:
            self.until(lambda: not Job.objects.get(pk=job.pk).live, seconds=seconds)
        except AssertionError:
            job.refresh_from_db()
            raise AssertionError(f"{job.state} after {seconds} s: {job.done}+{job.failed} of {job.total}") from None
        job.refresh_from_db()
        return job

    def completed(self, job, **more):
        self.ended(job, **more)
        assert job.state == JobState.COMPLETED, job.error
        return job

    def lines(self, job, name="predictions.csv"):
        path = self.blobs / job.outputs["score"]["uri"].partition("/paths/")[2] / name
        return path.read_text().splitlines()

    def close(self):
        for agent, thread in self.agents:
            agent.stop.set()
            agent.wake.set()
            thread.join(20)
            assert not thread.is_alive()
        driver = compute.driver("process")
        for handle in driver.list(owner=OWNER):
            driver.forget(handle)
        connection.close()
