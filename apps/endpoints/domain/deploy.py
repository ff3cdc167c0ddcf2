"""From a model to a live endpoint in one change: the endpoint if new, the deployment, its share of the traffic."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints.domain.common import begin, locked
from apps.endpoints.domain.deployments import add_deployment, check_spec
from apps.endpoints.domain.endpoints import add_endpoint
from apps.endpoints.domain.specs import DeploymentSpec, EndpointSpec
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint


@transaction.atomic
def deploy(
    *,
    workspace: Workspace,
    endpoint: OnlineEndpoint | tuple[str, EndpointSpec],
    name: str,
    spec: DeploymentSpec,
    share: int,
    actor: Any,
) -> tuple[OnlineDeployment, Operation]:
    """Deploy under an endpoint, or under a new one given by name and spec; then give it `share` percent of the traffic.

    The other deployments keep their proportions. A new deployment that does not come up leaves the traffic as it was.

    Raises:
        Problem: what `create_endpoint` and `create_deployment` raise; "bad-field" for a share that cannot be.
    """
    check_spec(spec)
    target = locked(endpoint) if isinstance(endpoint, OnlineEndpoint) else add_endpoint(workspace, *endpoint, actor)
    split = split_with(target, name, share)
    deployment = add_deployment(target, name, spec, actor)
    return deployment, begin("online-deployment.deploy", target, actor, deployment=deployment, traffic=split)


def split_with(endpoint: OnlineEndpoint, name: str, share: int) -> dict[str, int]:
    """The split in which `name` has `share` percent and the others keep their proportions, in whole percents.

    Raises Problem "bad-field": not 0 to 100, or less than 100 while nothing else takes traffic.
    """
    if not 0 <= share <= 100:  # noqa: PLR2004 -- percent
        raise Problem("bad-field", field="traffic", reason="must be 0 to 100 percent", target="share")
    if share == 0:
        return dict(endpoint.traffic)
    others = {each: percent for each, percent in sorted(endpoint.traffic.items()) if percent}
    if not others and share < 100:  # noqa: PLR2004
        reason = "no other deployment takes traffic yet: choose 0 or 100"
        raise Problem("bad-field", field="traffic", reason=reason, target="share")
    room, total = 100 - share, sum(others.values())
    shares = {each: percent * room // total for each, percent in others.items()}
    rests = sorted(others, key=lambda each: (-(others[each] * room % total), each))
    for each in rests[: room - sum(shares.values())]:
        shares[each] += 1
    if room >= len(shares):  # who had some keeps some
        for each in [each for each, percent in shares.items() if not percent]:
            shares[max(shares, key=lambda other: shares[other])] -= 1
            shares[each] = 1
    return {each: percent for each, percent in (shares | {name: share}).items() if percent}
