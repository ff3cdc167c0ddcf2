"""The console's sidebar."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _


def _item(title: Any, icon: str, name: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(f"console:{name}")}


def groups(_request: HttpRequest) -> list[dict[str, Any]]:
    return [
        {"title": "", "items": [_item(_("Overview"), "house", "index")]},
        {
            "title": _("People"),
            "items": [
                _item(_("Users"), "users", "accounts_user_changelist"),
                _item(_("Workspaces"), "boxes", "accounts_workspace_changelist"),
                _item(_("Memberships"), "shield-check", "accounts_membership_changelist"),
                _item(_("Tokens"), "key-round", "accounts_personaltoken_changelist"),
            ],
        },
        {
            "title": _("Serving"),
            "items": [
                _item(_("Endpoints"), "radio", "endpoints_onlineendpoint_changelist"),
                _item(_("Deployments"), "rocket", "endpoints_onlinedeployment_changelist"),
                _item(_("Instances"), "server", "compute_replica_changelist"),
                _item(_("Operations"), "activity", "core_operation_changelist"),
            ],
        },
        {
            "title": _("Batch"),
            "items": [
                _item(_("Batch endpoints"), "split", "batch_batchendpoint_changelist"),
                _item(_("Batch deployments"), "package", "batch_batchdeployment_changelist"),
                _item(_("Jobs"), "list-restart", "batch_job_changelist"),
                _item(_("Schedules"), "clock", "batch_schedule_changelist"),
                _item(_("Clusters"), "boxes", "batch_cluster_changelist"),
                _item(_("Nodes"), "cpu", "batch_node_changelist"),
                _item(_("Hosts"), "monitor", "batch_host_changelist"),
            ],
        },
        {
            "title": _("Assets"),
            "items": [
                _item(_("Models"), "box", "registry_modelversion_changelist"),
                _item(_("Data assets"), "folder", "registry_dataversion_changelist"),
                _item(_("Datastores"), "folder-open", "registry_datastore_changelist"),
                _item(_("Components"), "braces", "registry_componentversion_changelist"),
                _item(_("Environments"), "layers", "builds_build_changelist"),
                _item(_("Caches"), "hard-drive", "caches"),
            ],
        },
        {
            "title": _("System"),
            "items": [
                _item(_("Health"), "zap", "health"),
                _item(_("Limits"), "sliders-horizontal", "limits"),
                _item(_("Compute targets"), "memory-stick", "compute_computetarget_changelist"),
                _item(_("Instance types"), "cpu", "compute_instancetype_changelist"),
                _item(_("Audit"), "scroll-text", "core_auditrecord_changelist"),
            ],
        },
    ]
