"""Compute clusters on the wire: AmlCompute (wire 5.8)."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from django.db.models import Count
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Workspace
from apps.accounts.policy import Permission
from apps.api import arm
from apps.api import batch_shapes as shapes
from apps.api.online import ANY
from apps.api.views import PAGE, WorkspaceView, listing, one
from apps.batch import domain
from apps.batch.domain import ClusterSpec
from apps.batch.enums import NodeState, ProvisioningState
from apps.batch.models import Cluster as Row
from apps.batch.models import Node
from apps.core.durations import duration, duration_ms
from apps.core.errors import Problem

COMPUTE_ID = re.compile(
    r"(?:azureml:/?)?/subscriptions/[^/]+/resourcegroups/[^/]+/providers/microsoft\.machinelearningservices"
    r"/workspaces/(?P<ws>[^/]+)/computes/(?P<name>[^/]+)",
    re.IGNORECASE,
)
SCALE = "properties.properties.scaleSettings"
STEADY = (NodeState.IDLE, NodeState.RUNNING)


def compute_id(workspace: Workspace, cluster: Row) -> str:
    return f"{workspace.arm_id}/computes/{cluster.name}"


def find_cluster(workspace: Workspace, text: str, field: str) -> Row:
    """The cluster that an id, `azureml:<name>` or a name names. Raises Problem "bad-field"."""
    match = COMPUTE_ID.fullmatch(text)
    if match is not None and match["ws"].lower() != workspace.name.lower():
        reason = f"it is in workspace {match['ws']}, not in {workspace.name}"
        raise Problem("bad-field", field=field, reason=reason, target=field)
    name = match["name"] if match is not None else text.removeprefix("azureml:")
    found = Row.objects.filter(workspace=workspace, name__iexact=name).first()
    if found is None:
        reason = f"there is no compute {name[:100]} in workspace {workspace.name}"
        raise Problem("bad-field", field=field, reason=reason, target=field)
    return found


def show_cluster(row: Row) -> dict[str, Any]:
    counts = dict(row.nodes.values_list("state").annotate(Count("pk")).order_by())
    names = {"unusable": 0, **{str(state): counts.get(state, 0) for state in NodeState.values}}
    settled = all(state in STEADY for state in counts) and row.state != ProvisioningState.DELETING
    properties = {
        "computeType": "AmlCompute",
        "computeLocation": "local",
        "description": row.description,
        "disableLocalAuth": True,
        "provisioningState": row.state,
        "createdOn": arm.stamp(row.created_at),
        "modifiedOn": arm.stamp(row.modified_at),
        "properties": {
            "vmSize": row.instance_type,
            "vmPriority": row.tier,
            "scaleSettings": {
                "minNodeCount": row.min_nodes,
                "maxNodeCount": row.max_nodes,
                "nodeIdleTimeBeforeScaleDown": duration(row.idle_s * 1000),
            },
            "osType": "Linux",
            "remoteLoginPortPublicAccess": "NotSpecified",
            "allocationState": "Steady" if settled else "Resizing",
            "currentNodeCount": sum(counts.get(state, 0) for state in STEADY),
            "targetNodeCount": sum(counts.values()) - counts.get(NodeState.LEAVING, 0),
            "nodeStateCounts": {f"{name}NodeCount": count for name, count in names.items()},
            "errors": [{"code": row.waiting["azure"], "message": row.waiting["message"]}] if row.waiting else [],
        },
    }
    return arm.resource(
        row.workspace, f"computes/{row.name}", "computes", row, properties, location="local", tags=row.tags
    )


def show_node(node: Node) -> dict[str, Any]:
    return {
        "nodeId": node.name,
        "nodeState": node.state,
        "runId": node.job.name if node.job is not None else None,
        "host": node.host,
        "port": None,
        "publicIpAddress": None,
        "privateIpAddress": None,
    }


def cluster_spec(body: dict[str, Any]) -> ClusterSpec:
    given = body["properties"]
    inner = given["properties"]
    scale = inner.get("scaleSettings") or {}
    idle = scale.get("nodeIdleTimeBeforeScaleDown")
    values = {
        "tier": inner.get("vmPriority"),
        "min_nodes": scale.get("minNodeCount"),
        "max_nodes": scale.get("maxNodeCount"),
        "idle_s": None if idle is None else duration_ms(idle, f"{SCALE}.nodeIdleTimeBeforeScaleDown") // 1000,
        "description": given.get("description"),
        "tags": body.get("tags"),
    }
    return ClusterSpec(inner["vmSize"], **{name: value for name, value in values.items() if value is not None})


class ComputeView(WorkspaceView):
    permissions: ClassVar[dict[str, Permission]] = {
        **WorkspaceView.permissions,
        "PUT": Permission.COMPUTE,
        "POST": Permission.COMPUTE,
        "DELETE": Permission.COMPUTE,
    }

    def clusters(self) -> Any:
        return Row.objects.filter(workspace=self.workspace).select_related("workspace", "created_by", "modified_by")

    def cluster(self, name: str) -> Row:
        found: Row = one(self.clusters().filter(name__iexact=name), "compute", name)
        return found


class Computes(ComputeView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        return listing(show_cluster(each) for each in self.clusters()[:PAGE])


class Compute(ComputeView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, compute: str, **_: Any) -> Response:
        return Response(show_cluster(self.cluster(compute)))

    @extend_schema(request=shapes.ComputeBody, responses={200: ANY, 201: ANY})
    def put(self, request: Request, compute: str, **_: Any) -> Response:
        spec = cluster_spec(self.valid(shapes.ComputeBody, request.data))
        found = self.clusters().filter(name__iexact=compute).first()
        if found is None:
            made, operation = domain.create_cluster(
                workspace=self.workspace, name=compute, spec=spec, actor=request.user
            )
            return self.accepted(operation, body=show_cluster(made), status=201)
        operation = domain.update_cluster(cluster=found, spec=spec, actor=request.user)
        return self.accepted(operation, body=show_cluster(self.cluster(compute)), status=200)

    @extend_schema(responses={202: None, 204: None})
    def delete(self, request: Request, compute: str, **_: Any) -> Response:
        """`underlyingResourceAction`: only Delete, for nothing of a cluster lives on without it."""
        field = "underlyingResourceAction"
        action = request.query_params.get(field, "Delete")
        if action.lower() != "delete":
            raise Problem("bad-field", field=field, reason="only Delete is known here", target=field)
        found = self.clusters().filter(name__iexact=compute).first()
        if found is None:
            return Response(status=204)
        return self.accepted(domain.delete_cluster(cluster=found, actor=request.user))


class ComputeNodes(ComputeView):
    permissions: ClassVar[dict[str, Permission]] = {**WorkspaceView.permissions, "POST": Permission.READ}

    @extend_schema(request=None, responses=ANY)
    def post(self, request: Request, compute: str, **_: Any) -> Response:
        rows = self.cluster(compute).nodes.select_related("job")[:PAGE]
        return Response({"nodes": [show_node(each) for each in rows], "nextLink": None})


class NodePreempt(ComputeView):
    @extend_schema(request=None, responses=ANY)
    def post(self, request: Request, compute: str, node: str, **_: Any) -> Response:
        """Take a low-priority node away now, as the platform does when it needs the room."""
        domain.preempt_node(cluster=self.cluster(compute), name=node, actor=request.user)
        return Response({"nodeId": node, "nodeState": NodeState.PREEMPTED})
