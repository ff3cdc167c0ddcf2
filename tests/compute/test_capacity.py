"""Where deployments go and what they hold: nothing is ever given twice, and a refusal says what is missing."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest
from django.db import connection, transaction

from apps.compute import domain
from apps.compute.domain import Needs
from apps.compute.models import ComputeTarget, InstanceType, Reservation, WorkspaceCompute
from apps.compute.quantities import GIB, Size
from apps.core.errors import Problem
from apps.core.models import AuditRecord

pytestmark = pytest.mark.django_db(transaction=True)
ONE = Size(1000, GIB)


@pytest.fixture(autouse=True)
def process(settings, db):
    """The targets as an installation has them; containers are there, and nothing is given away twice."""
    settings.DEFAULT_DRIVER = "process"
    settings.DOCKER_URL = "unix:///nowhere.sock"
    domain.seed_targets()
    ComputeTarget.objects.filter(pk="process").update(
        cpu_milli=4000, mem_bytes=4 * GIB, overcommit_cpu=1, overcommit_memory=1
    )
    return ComputeTarget.objects.get(pk="process")


def hold(workspace, owner="iris/blue", *, size=ONE, instances=1, target="process"):
    return domain.reserve(owner_key=owner, workspace=workspace, target=target, size=size, instances=instances)


def place(workspace, *, container=False, gpus=0, isolation=""):
    return domain.place(workspace, needs_container=container, gpus=gpus, isolation=isolation)


def code(call, *args, **kwargs):
    with pytest.raises(Problem) as caught:
        call(*args, **kwargs)
    return caught.value.code


def quotas(workspace, **values):
    asked = {"target": "", "cpu_milli": None, "mem_bytes": None, "gpus": None, "instances": None} | values
    return domain.save_workspace_compute(workspace=workspace, actor=None, **asked)


def change(name, **values):
    row = ComputeTarget.objects.get(pk=name)
    fields = ("enabled", "cpu_milli", "mem_bytes", "gpus", "overcommit_cpu", "overcommit_memory")
    return domain.save_target(name=name, actor=None, **({each: getattr(row, each) for each in fields} | values))


def test_what_fits_is_held_and_what_does_not_is_refused_in_peoples_units(workspace):
    hold(workspace, instances=3)
    with pytest.raises(Problem) as caught:
        hold(workspace, "iris/green", size=Size(2500, GIB))
    problem = caught.value
    assert (problem.code, problem.entry.azure) == ("no-capacity", "OutOfQuota")
    assert problem.message == "Not enough CPU on local processes: 2.5 cores asked, 1 cores free."
    with pytest.raises(Problem, match=r"1\.5 GiB asked, 1 GiB free"):
        hold(workspace, "iris/green", size=Size(100, GIB * 3 // 2))
    assert not Reservation.objects.filter(owner_key="iris/green").exists()
    hold(workspace, "iris/green")


def test_a_change_counts_by_its_difference_and_less_is_never_refused(workspace):
    hold(workspace, instances=3)
    hold(workspace, instances=4)
    with pytest.raises(Problem, match="1 cores asked, 0 cores free"):
        hold(workspace, instances=5)
    ComputeTarget.objects.filter(pk="process").update(cpu_milli=1000)  # IT took some away
    hold(workspace, instances=4)
    hold(workspace, instances=3)
    assert code(hold, workspace, instances=4) == "no-capacity"
    assert domain.release(["iris/blue"]) == 1
    hold(workspace)


def test_memory_may_be_less_while_cpu_is_more_than_there_is(workspace):
    hold(workspace, size=Size(4000, 4 * GIB))
    hold(workspace, size=Size(4000, 2 * GIB))
    assert code(hold, workspace, "iris/green", size=Size(100, GIB)) == "no-capacity"


def test_overcommit_gives_more_than_there_is(workspace):
    change("process", overcommit_cpu=Decimal(2), overcommit_memory=Decimal("1.5"))
    ledger = domain.Ledger(workspace)
    lines = {line.amount: line.limit for line in ledger.target_lines(ledger.targets["process"])}
    assert lines == {"cpu_milli": 8000, "mem_bytes": 6 * GIB, "gpus": 0}
    hold(workspace, instances=6)
    assert code(hold, workspace, instances=7) == "no-capacity"


def test_two_targets_of_one_machine_share_it_until_it_is_divided(workspace):
    ComputeTarget.objects.update(cpu_milli=None, mem_bytes=None, overcommit_cpu=1, overcommit_memory=100)
    cores = domain.machine()[0]
    hold(workspace, size=Size(cores, GIB))
    with pytest.raises(Problem, match="on containers: 1 cores asked, 0 cores free"):
        hold(workspace, "iris/green", target="docker")
    hold(workspace, size=Size(cores, GIB), target="docker")  # it moves, and holds no more than before
    change("docker", cpu_milli=8000)
    hold(workspace, "iris/green", target="docker")


@pytest.mark.parametrize(
    ("quota", "wanted", "words"),
    [
        ({"cpu_milli": 1500}, Size(2000, GIB), "2 cores CPU asked, 1.5 cores of 1.5 cores free"),
        ({"mem_bytes": GIB}, Size(100, 2 * GIB), "2 GiB memory asked, 1 GiB of 1 GiB free"),
        ({"instances": 0}, ONE, "1 instances asked, 0 of 0 free"),
    ],
)
def test_a_quota_is_kept_whatever_the_target_has(workspace, quota, wanted, words):
    quotas(workspace, **quota)
    with pytest.raises(Problem) as caught:
        hold(workspace, size=wanted)
    assert (caught.value.code, caught.value.entry.azure) == ("quota", "OutOfQuota")
    assert words in caught.value.message


def test_a_quota_counts_every_target_and_only_this_workspace(workspace, people):
    other = people["charlie"].memberships.get().workspace
    quotas(workspace, instances=2)
    hold(other, "rose/blue")
    hold(workspace)
    hold(workspace, "iris/green", target="docker")
    assert code(hold, workspace, "iris/red", target="docker") == "quota"
    quotas(workspace, instances=1)  # what is there stays
    hold(workspace)
    hold(other, "rose/green")


def test_gpus_are_counted_and_never_overcommitted(workspace):
    change("docker", gpus=2, cpu_milli=64_000, mem_bytes=64 * GIB)
    hold(workspace, size=Size(1000, GIB, 1), instances=2, target="docker")
    with pytest.raises(Problem, match="Not enough GPUs on containers: 1 asked, 0 free"):
        hold(workspace, "iris/green", size=Size(1000, GIB, 1), target="docker")
    assert code(hold, workspace, "iris/green", size=Size(1000, GIB, 1)) == "no-capacity"


def test_two_at_the_same_moment_never_get_the_same_capacity(workspace):
    start, results = threading.Barrier(6), []

    def ask(number):
        start.wait(timeout=30)
        try:
            with transaction.atomic():
                hold(workspace, f"iris/d{number}", size=Size(2000, GIB))
            results.append("held")
        except Problem as problem:
            results.append(problem.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(timeout=60)
    assert sorted(results) == ["held"] * 2 + ["no-capacity"] * 4
    assert sum(Reservation.objects.values_list("cpu_milli", flat=True)) == 4000


def test_two_at_the_same_moment_keep_the_quota(workspace, settings):
    settings.DEFAULT_DRIVER = "fake"
    quotas(workspace, instances=3)
    start, results = threading.Barrier(5), []

    def ask(number):
        start.wait(timeout=30)
        try:
            hold(workspace, f"iris/d{number}", target="fake")
            results.append("held")
        except Problem as problem:
            results.append(problem.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(timeout=60)
    assert sorted(results) == ["held"] * 3 + ["quota"] * 2


def test_python_runs_as_processes_and_the_rest_in_containers(workspace):
    assert place(workspace) == "process"
    assert place(workspace, container=True) == "docker"
    assert place(workspace, gpus=1) == "docker"
    assert place(workspace, isolation="container") == "docker"
    change("process", enabled=False)
    assert place(workspace) == "docker"


@pytest.mark.parametrize(
    ("level", "expected"), [("bwrap+cgroup", "process"), ("bwrap", "process"), ("rlimits", "docker")]
)
def test_a_sandbox_is_what_the_machine_reaches(workspace, monkeypatch, level, expected):
    class Driver:
        def describe(self):
            return {"level": level}

    monkeypatch.setattr("apps.compute.domain.targets.driver", lambda _name: Driver())
    assert place(workspace, isolation="sandbox") == expected


def test_what_no_target_can_run_is_refused_with_the_reason(workspace, settings):
    change("docker", enabled=False)
    with pytest.raises(Problem) as caught:
        place(workspace, container=True)
    problem = caught.value
    assert (problem.code, problem.entry.status) == ("no-target", 400)
    assert "the environment needs a container" in problem.message
    assert "containers are switched off" in problem.message
    assert "administrator" in problem.next_step
    change("docker", enabled=True)
    settings.DOCKER_URL = ""
    with pytest.raises(Problem, match="no container engine"):
        place(workspace, gpus=1)


def test_a_workspace_keeps_to_its_target(workspace):
    quotas(workspace, target="docker")
    assert place(workspace) == "docker"
    quotas(workspace, target="process")
    assert place(workspace) == "process"
    with pytest.raises(Problem) as caught:
        place(workspace, container=True)
    assert (caught.value.code, caught.value.entry.status) == ("target-unfit", 400)
    WorkspaceCompute.objects.update(target="gone")
    assert code(place, workspace) == "target-unfit"


def test_the_fake_is_always_there_and_large_unless_a_row_says_otherwise(workspace, settings):
    settings.DEFAULT_DRIVER = "fake"
    assert place(workspace, container=True, gpus=8, isolation="container") == "fake"
    hold(workspace, size=Size(64_000, 2**40, 8), instances=1000, target="fake")
    ComputeTarget.objects.create(name="fake", enabled=False, cpu_milli=1000)
    assert place(workspace) == "docker"
    assert code(hold, workspace, "iris/green", size=Size(1001, GIB), target="fake") == "no-capacity"


def test_seeding_follows_the_engine_until_it_has_decided(settings):
    ComputeTarget.objects.all().delete()
    settings.DOCKER_URL = ""
    domain.seed_targets()
    assert dict(ComputeTarget.objects.values_list("name", "enabled")) == {"process": True, "docker": False}
    settings.DOCKER_URL = "unix:///engine.sock"
    domain.seed_targets()
    assert ComputeTarget.objects.get(pk="docker").enabled
    change("docker", enabled=False)
    domain.seed_targets()
    assert not ComputeTarget.objects.get(pk="docker").enabled


def test_changes_are_checked_and_audited(workspace, people):
    assert code(change, "process", overcommit_cpu=Decimal(0)) == "bad-field"
    assert code(change, "process", cpu_milli=-1) == "bad-field"
    assert code(change, "process", mem_bytes=2**61) == "bad-field"
    assert code(quotas, workspace, target="nowhere") == "bad-field"
    assert code(quotas, workspace, instances=-1) == "bad-field"
    assert not AuditRecord.objects.exists()
    change("process", cpu_milli=None)
    quotas(workspace, target="docker", instances=3)
    targets, compute = AuditRecord.objects.order_by("pk")
    assert (targets.action, targets.target) == ("compute-target.update", "compute-target/process")
    assert (targets.detail["before"]["cpu_milli"], targets.detail["after"]["cpu_milli"]) == (4000, None)
    assert (compute.action, compute.workspace, compute.detail["after"]["instances"]) == ("workspace.compute", "lab", 3)
    with pytest.raises(Problem):
        domain.save_target(
            name="none", enabled=True, cpu_milli=None, mem_bytes=None, gpus=None,
            overcommit_cpu=Decimal(1), overcommit_memory=Decimal(1), actor=None,
        )  # fmt: skip


def test_how_many_of_a_type_fit_and_why_no_more(workspace):
    box = InstanceType.objects.create(name="box", cpu_milli=1500, mem_bytes=GIB)
    here = min(1500, domain.machine()[0])
    hold(workspace)
    count, reason = domain.Ledger(workspace).most(box)
    assert count == 3000 // here
    assert reason == "3 cores of CPU free on local processes"
    quotas(workspace, instances=2)
    count, reason = domain.Ledger(workspace).most(box)
    assert (count, reason) == (1, "1 of the quota of instances free")
    box.gpus = 1
    assert domain.Ledger(workspace).most(box) == (0, "0 of GPUs free on containers")
    change("docker", enabled=False)
    count, reason = domain.Ledger(workspace).most(box)
    assert count == 0
    assert "GPUs are given to containers only" in reason


def test_the_driver_of_an_owner_is_where_it_was_placed(workspace):
    assert domain.driver_of("iris/blue") == "process"
    hold(workspace, target="docker")
    assert domain.driver_of("iris/blue") == "docker"
    assert domain.Ledger(workspace).place(Needs(container=True)) == "docker"


def test_reservations_of_nobody_are_given_back(workspace):
    hold(workspace)
    hold(workspace, "iris/green")
    assert domain.release_unowned(lambda owners: owners & {"iris/blue"}) == 1
    assert [each.owner_key for each in Reservation.objects.all()] == ["iris/blue"]
    assert domain.release_unowned(lambda owners: owners) == 0
