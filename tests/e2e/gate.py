"""Every page that people see, with the address that shows it. tests/e2e/test_gate.py opens them all.

A URL that is no page (a verb, JSON, a download) is in NO_PAGE. A new URL that is in neither fails the gate.
"""

from __future__ import annotations

LAB = "/w/lab"
FLOWERS = f"{LAB}/endpoints/flowers"

PAGES = {
    "studio:workspace": f"{LAB}/",
    "studio:endpoints": f"{LAB}/endpoints",
    "studio:endpoint-create": f"{LAB}/create/endpoint",
    "studio:deploy": f"{LAB}/create/deployment?model=iris:1",
    "studio:endpoint": FLOWERS,
    "studio:endpoint-deployments": f"{FLOWERS}/deployments",
    "studio:endpoint-edit": f"{FLOWERS}/edit",
    "studio:endpoint-traffic": f"{FLOWERS}/traffic",
    "studio:endpoint-test": f"{FLOWERS}/test",
    "studio:endpoint-metrics": f"{FLOWERS}/metrics",
    "studio:endpoint-keys": f"{FLOWERS}/keys",
    "studio:endpoint-logs": f"{FLOWERS}/logs",
    "studio:request-search": f"{LAB}/requests",
    "studio:endpoint-activity": f"{FLOWERS}/activity",
    "studio:endpoint-delete": f"{FLOWERS}/delete",
    "studio:deployment": f"{FLOWERS}/deployments/blue",
    "studio:deployment-edit": f"{FLOWERS}/deployments/blue/edit",
    "studio:deployment-delete": f"{FLOWERS}/deployments/blue/delete",
    "studio:models": f"{LAB}/models",
    "studio:model-register": f"{LAB}/create/model",
    "studio:model-from-run": f"{LAB}/create/model/from-run",
    "studio:model": f"{LAB}/models/iris",
    "studio:model-files": f"{LAB}/models/iris/files?version=1",
    "studio:model-package": f"{LAB}/models/iris/package?version=1",
    "studio:model-delete": f"{LAB}/models/iris/delete?version=1",
    "studio:environments": f"{LAB}/environments",
    "studio:environment-create": f"{LAB}/create/environment",
    "studio:environment-from-dockerfile": f"{LAB}/create/environment/from-dockerfile",
    "studio:environment": f"{LAB}/environments/sklearn",
    "studio:environment-delete": f"{LAB}/environments/sklearn/delete?version=1",
    "studio:compute": f"{LAB}/compute",
    "studio:operations": f"{LAB}/operations",
    "studio:operation": f"{LAB}/operations/{{operation}}",
    "studio:account": "/account",
    "studio:tokens": "/account/tokens",
    "account_change_password": "/accounts/password/change/",
    "account_email": "/accounts/email/",
    "account_logout": "/accounts/logout/",
    "mfa_index": "/accounts/2fa/",
    "not found": f"{LAB}/nowhere",
    "no such endpoint": f"{LAB}/endpoints/nobody",
}
FOR_NOBODY = {
    "account_login": "/accounts/login/",
    "account_reset_password": "/accounts/password/reset/",
    "account_reset_password_done": "/accounts/password/reset/done/",
}
NO_PAGE = {
    "studio:home",
    "studio:find",
    "studio:pick",
    "studio:endpoint-metrics-data",
    "studio:endpoint-counters",
    "studio:endpoint-log-lines",
    "studio:endpoint-log-download",
    "studio:key-reveal",
    "studio:key-regenerate",
    "studio:model-download",
    "studio:environment-build",
    "studio:environment-export",
    "studio:operation-cancel",
    "studio:operation-log",
    "studio:token-revoke",
    "language",
}
# asks for the password again, or exists only in the middle of something
IN_BETWEEN = {
    "account_signup",
    "account_inactive",
    "account_confirm_email",
    "account_confirm_login_code",
    "account_email_verification_sent",
    "account_reauthenticate",
    "account_reset_password_from_key",
    "account_reset_password_from_key_done",
    "account_set_password",
    "mfa_authenticate",
    "mfa_activate_totp",
    "mfa_deactivate_totp",
    "mfa_download_recovery_codes",
    "mfa_generate_recovery_codes",
    "mfa_reauthenticate",
    "mfa_view_recovery_codes",
}
EXPECTED_STATUS = {"not found": 404, "no such endpoint": 404}
