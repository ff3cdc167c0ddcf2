"""What can be packaged and what cannot, who may delete what, and what an exported context holds; without an engine."""

import gzip
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from django.utils import timezone

from apps.builds.models import Package
from apps.builds.packaging import context, dockerfile
from apps.builds.packaging import domain as packaging
from apps.builds.packaging.domain import PackageSpec
from apps.builds.packaging.plan import plan_of
from apps.compute.domain import seed_instance_types, seed_targets
from apps.core import operations
from apps.core.errors import Problem
from apps.core.models import AuditRecord, Operation
from apps.endpoints import domain, servers
from apps.endpoints.contents import contents_of
from apps.endpoints.domain import DeploymentSpec
from apps.endpoints.users import users_of
from apps.registry.domain import delete_version, register_code, register_environment, register_model
from apps.registry.models import Environment, EnvironmentVersion
from tests.factories import make_endpoint
from tests.packages.parts import ROUTES, Parts
from tests.world import tree_of

pytestmark = pytest.mark.django_db(transaction=True)
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def parts(workspace, people):
    seed_instance_types()
    seed_targets()
    return Parts(workspace, people["olga"])


def made(parts, **more):
    """A package that is ready, without anything built."""
    version, operation = parts.package(**more)
    Operation.objects.filter(pk=operation.pk).update(state="succeeded")
    lock = "numpy==2.0.0\n"
    Package.objects.filter(pk=version.pk).update(ready_at=timezone.now(), lock=lock, python="3.11.7")
    return Package.objects.select_related("environment__asset", "model__asset", "code__asset").get(pk=version.pk)


REFUSED = {
    "no script": (lambda p: (p.custom, PackageSpec(base=p.plain)), "unsupported"),
    "script without environment": (lambda p: (p.custom, p.script(base=None)), "environment-needed"),
    "an MLflow model that declares none": (lambda p: (p.bare, PackageSpec()), "environment-needed"),
    "no such script": (lambda p: (p.custom, p.script(scoring_script="other.py")), "script-missing"),
    "code without script": (lambda p: (p.custom, p.script(scoring_script="")), "bad-field"),
    "script without code": (lambda p: (p.custom, p.script(code=None)), "bad-field"),
    "copy without engine": (lambda p: (p.mlflow, PackageSpec(mode="copy")), "unsupported"),
    "image without engine": (lambda p: (p.custom, p.script(base=p.image)), "unsupported"),
    "Triton of another model": (lambda p: (p.mlflow, PackageSpec(server="triton")), "unsupported"),
    "Triton with code": (lambda p: (p.triton, p.script(server="triton")), "bad-field"),
    "a server of nothing": (lambda p: (p.custom, PackageSpec(server="custom", inference_config=ROUTES)), "bad-field"),
    "a server of packages": (
        lambda p: (p.custom, PackageSpec(server="custom", base=p.plain, inference_config=ROUTES)),
        "bad-field",
    ),
    "a server without routes": (lambda p: (p.custom, PackageSpec(server="custom", base=p.image)), "bad-field"),
    "a server with code": (lambda p: (p.custom, p.script(server="custom", base=p.served)), "bad-field"),
    "routes for ours": (lambda p: (p.mlflow, PackageSpec(inference_config=ROUTES)), "bad-field"),
    "our variable": (lambda p: (p.mlflow, PackageSpec(environment_variables={"PORTWAY_X": "1"})), "bad-field"),
    "no variable": (lambda p: (p.mlflow, PackageSpec(environment_variables={"a b": "1"})), "bad-field"),
    "a variable of two lines": (lambda p: (p.mlflow, PackageSpec(environment_variables={"A": "1\n2"})), "bad-field"),
    "our folder": (lambda p: (p.mlflow, PackageSpec(mount_path="/opt/portway/x")), "bad-field"),
    "no folder": (lambda p: (p.mlflow, PackageSpec(mount_path="a/../b")), "bad-field"),
    "a folder with a command": (lambda p: (p.mlflow, PackageSpec(mount_path="/a $(b)")), "bad-field"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_refused_and_leaves_nothing(parts, case):
    build, code = REFUSED[case]
    model, spec = build(parts)
    with pytest.raises(Problem) as refused:
        parts.package(model, spec)
    assert refused.value.code == code
    assert not Package.objects.exists()
    assert not Environment.objects.filter(name="pkg").exists()
    assert not Operation.objects.exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "-a", "x" * 256, "$(x)", "a\n"])
def test_a_broken_name_is_refused(parts, name):
    with pytest.raises(Problem) as refused:
        parts.package(name=name)
    assert refused.value.code == "bad-name"
    assert not Package.objects.exists()


def test_a_version_that_exists_is_not_packaged_over(parts):
    parts.package(version="7")
    with pytest.raises(Problem) as refused:
        parts.package(version="7")
    assert refused.value.code == "exists"
    with pytest.raises(Problem):
        parts.package(name="plain", version="1")
    assert Package.objects.count() == 1


def test_a_package_of_a_package_is_refused(parts):
    row = made(parts)
    with pytest.raises(Problem, match="is a package itself"):
        parts.package(spec=parts.script(base=row.environment), name="second")


def test_its_deployment_has_what_the_package_has(parts, workspace, people):
    row = made(parts, spec=parts.script(environment_variables={"GREETING": "a", "B": "1"}, mount_path="/srv"))
    endpoint = make_endpoint(workspace, "iris")
    spec = DeploymentSpec(environment=row.environment, environment_variables={"GREETING": "mine"})
    own = contents_of(spec)
    assert (own.model, own.code, own.scoring_script) == (parts.custom, parts.code, "score.py")
    assert own.environment_variables == {"GREETING": "mine", "B": "1"}
    assert own.model_mount_path == "/srv"
    assert servers.server_of(spec) is servers.Server.PORTWAY
    blue, _ = domain.create_deployment(endpoint=endpoint, name="blue", spec=spec, actor=people["olga"])
    assert blue.served_model == parts.custom
    Operation.objects.update(state="succeeded")
    second = made(parts)
    changed = domain.spec_of(blue, environment=second.environment)
    domain.update_deployment(deployment=blue, spec=changed, actor=people["olga"])
    blue.refresh_from_db()
    assert blue.revision == 2, "another package needs new instances"


@pytest.mark.parametrize("field", ["model", "code", "model_mount_path", "scoring_script"])
def test_what_a_package_has_cannot_be_given_too(parts, workspace, people, field):
    row = made(parts)
    value = {"model": parts.mlflow, "code": parts.code, "model_mount_path": "/srv", "scoring_script": "score.py"}[field]
    spec = DeploymentSpec(environment=row.environment, **{field: value})
    with pytest.raises(Problem, match="leave it out"):
        domain.create_deployment(
            endpoint=make_endpoint(workspace, "iris"), name="blue", spec=spec, actor=people["olga"]
        )


def test_microsofts_server_is_not_in_the_image_of_a_package(parts, settings, workspace, people):
    row = made(parts)
    properties = {servers.PROPERTY: servers.Server.AZUREML}
    servers.check(DeploymentSpec(environment=row.environment, properties=properties))
    Package.objects.update(mode="copy")
    environment = EnvironmentVersion.objects.get(pk=row.pk)
    with pytest.raises(Problem, match="same contract"):
        servers.check(DeploymentSpec(environment=environment, properties=properties))


def test_who_is_in_use(parts, people):
    row = made(parts)
    assert users_of(parts.custom) == users_of(parts.code) == ["package pkg:1"]
    for version in (parts.custom, parts.code):
        with pytest.raises(Problem) as refused:
            delete_version(version=version, actor=people["olga"], users=users_of(version))
        assert refused.value.code == "in-use"
        with pytest.raises(Problem, match="pkg:1"):  # packaged since the caller looked
            delete_version(version=version, actor=people["olga"], users=[])
    delete_version(version=parts.plain, actor=people["olga"], users=users_of(parts.plain))
    row = Package.objects.get(pk=row.pk)
    assert row.base is None
    assert row.environment.conda_file, "it has its own copy"
    delete_version(version=row.environment, actor=people["olga"], users=users_of(row.environment))
    assert not Package.objects.exists()
    delete_version(version=parts.custom, actor=people["olga"], users=users_of(parts.custom))


def test_a_canceled_package_leaves_nothing(parts, people):
    _, operation = parts.package()
    operations.cancel(operation, actor=people["olga"])
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert operation.state == "canceled"
    assert not Environment.objects.filter(name="pkg").exists()


def test_one_that_was_deleted_meanwhile_is_a_reasoned_end(parts, people):
    version, operation = parts.package()
    delete_version(version=version, actor=people["olga"], users=[])
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert operation.error["code"] == "not-found"


# ---- what is taken elsewhere


PLANS = {
    "mlflow": lambda p: made(p, model=p.mlflow, spec=PackageSpec()),
    "script": lambda p: made(
        p,
        spec=p.script(environment_variables={"ODD": 'a "b" $HOME \\ {c} # d', "PLAIN": "1"}, mount_path="/srv/models"),
    ),
    "triton": lambda p: made(p, model=p.triton, spec=PackageSpec(server="triton")),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_dockerfile_reads_as_it_should(parts, name):
    text = dockerfile.render(plan_of(PLANS[name](parts)))
    assert text == (GOLDEN / f"{name}.Dockerfile").read_text()


def test_the_dockerfile_of_a_custom_server(parts, settings):
    settings.DOCKER_URL = "unix:///nowhere"
    text = dockerfile.render(plan_of(made(parts, spec=PackageSpec(server="custom", base=parts.served))))
    assert "FROM registry.example/a:1\n" in text
    assert "EXPOSE 8080\n" in text
    assert not {"USER", "RUN", "ENTRYPOINT", "runtime/"} & set(text.split())


def test_a_dockerfile_base_is_built_first(parts, settings):
    settings.DOCKER_URL = "unix:///nowhere"
    base, _ = register_environment(
        workspace=parts.workspace,
        name="Its.Own",
        build_context=tree_of(docker__Dockerfile="FROM a\n", x="y"),
        dockerfile_path="docker/Dockerfile",
        inference_config=ROUTES,
        actor=parts.actor,
    )
    row = made(parts, spec=PackageSpec(server="custom", base=base), name="Its_Package")
    files = {each.name for each in context.exported(row)}
    assert {"base/docker/Dockerfile", "base/x", "Dockerfile"} <= files
    text = context.readme(row)
    assert "docker build -t its-package-base -f base/docker/Dockerfile base\n" in text
    assert "FROM its-package-base\n" in dockerfile.render(plan_of(row))


@pytest.mark.parametrize(
    ("image", "version", "expected"),
    [
        ("python:3.11-slim", "3.11.7", "python:3.11-slim"),
        ("python:3.11-slim", "3.12.1", "python:3.12-slim"),
        ("registry.example/3.9/base:7", "3.12.1", "registry.example/3.9/base:7"),
    ],
)
def test_the_lock_and_the_python_of_the_image_go_together(parts, settings, image, version, expected):
    row = made(parts)
    settings.BASE_IMAGE = image
    row.python = version
    assert plan_of(row).base == expected


HOSTILE = ["we ird $(x) `y`", "qu\"ote's", "-rf", "ünïcode €", "a\\b", ".dockerignore", "#x", "x" * 200]


def hostile(parts):
    files = {f"sub__{name}": "1" for name in HOSTILE} | dict.fromkeys(HOSTILE, "2")
    model, _ = register_model(
        workspace=parts.workspace, name="hostile", tree=tree_of(**files), path="", actor=parts.actor
    )
    code, _ = register_code(
        workspace=parts.workspace,
        name="hostile",
        tree=tree_of(**{'we"ird $x__score.py': "def init(): pass\ndef run(d): pass\n"}),
        path='we"ird $x',
        actor=parts.actor,
    )
    return made(parts, model=model, spec=parts.script(code=code), name="hostile")


def read(row, people):
    name, parts = packaging.export(version=row.environment, kind="context", actor=people["olga"])
    return name, b"".join(parts)


def test_hostile_names_of_files_are_only_names(parts, people):
    row = hostile(parts)
    name, data = read(row, people)
    assert name == "hostile-1-context.tar.gz"
    assert data == read(row, people)[1], "equal packages are equal bytes"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        assert {f"hostile-1/model/{each}" for each in HOSTILE} <= set(names)
        assert all(not each.startswith("/") and ".." not in each.split("/") for each in names)
        assert {member.mode for member in tar} <= {0o644, 0o755}
        assert {member.mtime for member in tar} == {0}
        text = tar.extractfile("hostile-1/Dockerfile").read().decode()
    assert r'COPY ["code/", "/var/azureml-app/we\"ird \\$x/"]' in text
    assert r'AML_APP_ROOT="/var/azureml-app/we\"ird \$x"' in text


def test_a_context_holds_what_its_dockerfile_copies_and_no_secret(parts, people, settings):
    settings.BUILD_INDEX_URL = "https://user:s3cret@index.example/simple"
    settings.BUILD_ARGS = {"TOKEN": "s3cret-too"}
    for build in PLANS.values():
        row = build(parts)
        data = gzip.decompress(read(row, people)[1])
        assert b"s3cret" not in data
        assert b"index.example" not in data
        row.environment.delete()
    assert AuditRecord.objects.filter(action="package.export").count() == len(PLANS)


def test_a_password_in_an_address_is_not_packaged():
    assert packaging.SECRET.search("a @ https://user:pass@host/x.whl")
    assert packaging.SECRET.search("a @ https://token@github.com/x")
    assert packaging.SECRET.search("a @ git+ssh://git:pass@host/x")
    assert not packaging.SECRET.search("a @ git+ssh://git@host/x\nb==1 # c@d")


def test_only_a_package_that_is_ready_can_be_taken(parts, people):
    version, _ = parts.package()
    for target, code in ((version, "conflict"), (parts.plain, "not-found")):
        with pytest.raises(Problem) as refused:
            packaging.export(version=target, kind="context", actor=people["olga"])
        assert refused.value.code == code
    row = made(parts, name="second")
    for kind, code in (("zip", "bad-field"), ("image", "unsupported"), ("", "bad-field")):
        with pytest.raises(Problem) as refused:
            packaging.export(version=row.environment, kind=kind, actor=people["olga"])
        assert refused.value.code == code


def test_a_plan_without_a_lock_uses_the_python_of_the_image():
    plan = dockerfile.Plan(
        package="p:1",
        model="m:1",
        base="b",
        server="azureml_online",
        models="/m",
        python="/opt/bin/python",
        packages=False,
    )
    text = dockerfile.render(plan)
    assert "requirements.lock" not in text
    assert 'ENTRYPOINT ["/opt/bin/python", "/opt/portway/runtime/boot.py"]' in text
    own = dockerfile.render(replace(plan, server="triton", repository="/m/net"))
    assert 'ENTRYPOINT ["tritonserver", "--model-repository=/m/net"' in own
