"""Forms that take files: the gateway lets large bodies through at their addresses, and at no others."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.urls import reverse

from apps.gateway.envoy.routes import UPLOADS

FORMS = {  # by the template
    "model_register": ("model-register", ()),
    "data_create": ("data-create", ()),
    "job_create": ("job-create", ()),
    "deploy": ("deploy", ()),
    "component_register": ("component-register", ()),
    "environment_context": ("environment-from-dockerfile", ()),
    "model_package": ("model-package", ("flowers",)),
    "deployment_edit": ("deployment-edit", ("flowers", "blue")),
    "batch_deployment_create": ("batch-deployment-create", ("forests",)),
    "batch_deployment_edit": ("batch-deployment-edit", ("forests", "blue")),
}
SMALL = {"endpoint_test": ("endpoint-test", ("flowers",))}  # one request's body, not more than an endpoint takes


def passes(name, args):
    path = reverse(f"studio:{name}", args=("lab", *args))
    return any(re.fullmatch(each, path) for each in UPLOADS.values())


@pytest.mark.parametrize("form", FORMS)
def test_large_files_pass_at_a_form_for_files(form):
    assert passes(*FORMS[form])


@pytest.mark.parametrize(("name", "args"), [*SMALL.values(), ("endpoint-create", ()), ("cluster-create", ())])
def test_no_others_do(name, args):
    assert not passes(name, args)


def test_no_form_for_files_is_missing_here():
    pages = Path(settings.BASE_DIR, "templates", "studio", "pages")
    found = {
        each.stem for each in pages.glob("*.html") if re.search(r'multipart="|enctype="multipart', each.read_text())
    }
    assert found == {*FORMS, *SMALL}
