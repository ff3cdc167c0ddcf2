"""What a replica can reach and use, at each level; and that `describe()` claims no more than is true.

Levels that do not keep something are tested too: the replica must then reach it, which also shows that the test would
notice. Only addresses of this machine are contacted.
"""

import json
import os
import sys
from pathlib import Path

import pytest

from apps.compute.drivers import cgroups, isolation, sandbox
from apps.compute.drivers.base import Mount, Network, ReplicaSpec, Resources, State
from tests.drivers.conftest import MIB, MODEL, until


@pytest.fixture
def look(processes, listener, monkeypatch):
    """Start the mode `look` with a model mount, as a portal that has a secret in its environment."""
    monkeypatch.setenv("PORTAL_SECRET", "hunter2")
    model = processes.base / "model"
    model.mkdir()
    (model / "weights").write_text("w")
    secret = Path(processes.base.parent / f"{processes.base.name}-host")
    secret.touch()

    # Only where they cannot be written: a weak level would leave them on this machine.
    writes = ("/new", "/usr/new", "/dev/new", "/etc/new", "/root/new") if promised(processes).filesystem else ()

    def run(**more):
        mount = Mount(str(model), MODEL)
        handle = processes.start("r1", "look", MODEL, str(listener), *writes, mounts=(mount,), **more)
        return processes.found(handle)

    yield run
    secret.unlink()


def promised(processes):
    return processes.driver.isolation.guarantees()


def test_network(look, processes):
    assert look()["network"] is not promised(processes).network


def test_egress_reaches_the_network(look):
    assert look(network=Network.EGRESS)["network"] is True


def test_files(look, processes):
    found, kept = look(), promised(processes).filesystem
    writes = found["write"]
    tmp = found["env"]["TMPDIR"]
    assert writes[f"{tmp}/new"] == "written"
    if kept:
        assert {path for path, result in writes.items() if result == "written"} == {f"{tmp}/new"}
        # what is mounted from below /tmp (a checkout there, say) shows as the folder on the way to it
        mounted = {Path(sys.prefix), Path(sys.base_prefix), Path(__file__)}
        assert set(found["tmp"]) <= {path.parts[2] for path in mounted if path.parts[1] == "tmp"}
        assert found["run"] == ["s"]
        assert found["home"] == "FileNotFoundError"
        assert "shadow" not in found["etc"]
        assert found["root"] == "FileNotFoundError" or set(found["root"]) <= {".pyenv", ".local"}
        assert found["pids"] <= 4
    else:
        assert f"{processes.base.name}-host" in found["tmp"]
        assert found["pids"] > 4


def test_model_is_not_written(look, processes):
    kept = promised(processes).filesystem or promised(processes).own_user
    writes = look()["write"]
    assert (processes.base / "model" / "new").exists() is not kept
    assert next(iter(writes.values())) == ("OSError" if promised(processes).filesystem else
                                           "PermissionError" if kept else "written")  # fmt: skip


def test_environment_holds_nothing_of_the_portal(look):
    env = look(env={"MINE": "1", "LD_CUSTOM": "2"})["env"]
    names = {"PATH", "HOME", "TMPDIR", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NAME", "BENCH", "MINE"}
    names |= {"LD_CUSTOM"}
    assert set(env) - {"PWD", "LC_CTYPE"} == names
    assert (env["MINE"], env["LD_CUSTOM"]) == ("1", "2")


def test_user_and_rights(look, processes):
    found = look()
    status = dict(line.split(":\t", 1) for line in found["status"].splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    if promised(processes).own_user:
        assert found["uid"] == 65534
        assert status["Groups"].strip() == ""
    if promised(processes).own_user or os.geteuid() != 0:
        assert {status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0000000000000000"}
    if promised(processes).own_user:
        assert status["CapBnd"] == "0000000000000000"
    assert found["limits"] == {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": 4096}


def test_memory(processes):
    """120 MB allowed: where nothing but the address space is bounded, the program gets an error instead."""
    handle = processes.start("r1", "eat", "2000", mem=120_000_000)
    seen = processes.exited(handle, seconds=30)
    if promised(processes).oom_signal:
        assert (seen.oom, seen.exit_code) == (True, -9)
    else:
        assert (seen.oom, seen.exit_code) == (False, 1)
        assert "MemoryError" in processes.text(handle)


def test_memory_within_the_limit_is_no_oom(processes):
    handle = processes.start("r1", "eat", "60", mem=200_000_000)
    until(lambda: "ate 60" in processes.text(handle))
    processes.driver.stop(handle, grace_s=2)
    assert processes.driver.observe(handle).oom is False


def test_fork_bomb(processes):
    handle = processes.start("r1", "bomb", pids=40, mem=1000 * MIB)
    processes.reach(handle, State.RUNNING, seconds=60)
    line = next(line for line in processes.text(handle).splitlines() if line.startswith("forked "))
    made = int(line.split()[1])
    if promised(processes).pids:
        assert 5 <= made <= (40 if promised(processes).oom_signal else 50)  # rlimits start from a count
    else:
        assert made == 2000
    processes.driver.stop(handle, grace_s=2)
    until(lambda: processes.processes("r1") == [], seconds=10)


def test_processor_share(processes):
    handle = processes.start("r1", "busy", "1.2", cpu=300)
    processes.exited(handle)
    used = float(next(line for line in processes.text(handle).splitlines() if line.startswith("CPU ")).split()[1])
    if promised(processes).cpu:
        assert used < 0.45


def test_tmp_is_bounded(best):
    args = isolation.plan(
        best.spec("r1", mem=400 * MIB),
        best.driver.isolation,
        root_dir=best.base / "state",
        run=best.base / "run" / "r1",
    ).get("sandbox", [])
    if best.driver.isolation.sandboxed:
        at = args.index("/tmp")
        assert args[at - 3 : at] == ["--size", str(100 * MIB), "--tmpfs"]


def test_secrets_are_on_no_command_line(best):
    handle = best.start("r1", env={"TOKEN": "s3cr3t-value"})
    best.running(handle)
    for pid in best.processes("r1"):
        assert b"s3cr3t-value" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert (best.base / "state" / "r1" / "spec.json").stat().st_mode & 0o077 == 0


def test_loader_variables_reach_neither_bwrap_nor_setpriv(best):
    spec = best.spec("r1", env={"LD_PRELOAD": "/opt/app/evil.so", "PLAIN": "1"})
    found = isolation.probe()
    if not found.sandboxed:
        pytest.skip("no bubblewrap here")
    orders = isolation.plan(spec, found, root_dir=best.base, run=best.base / "r1")
    assert orders["env"] == {}
    assert "LD_PRELOAD" not in orders["sandbox"]
    assert "PLAIN" in orders["sandbox"]
    at = orders["argv"].index("LD_PRELOAD=/opt/app/evil.so")
    assert found.env_tool in orders["argv"][:at]


def test_describe_is_json_and_names_the_level(processes):
    told = processes.driver.describe()
    assert json.loads(json.dumps(told)) == told
    assert told["level"] == str(processes.driver.level)
    assert [entry["level"] for entry in told["levels"]] == [str(level) for level in isolation.LEVELS]


def test_socket_folder_for_a_gateway_group(base):
    from tests.drivers.conftest import process_bench

    gid = os.getgid()
    bench = process_bench(base, str(isolation.probe().level), gateway_gid=gid)
    try:
        bench.running(bench.start("r1"))
        status = (base / "run" / "r1").stat()
        assert (status.st_mode & 0o777, status.st_gid) == (0o750, gid)
    finally:
        bench.close()


def test_forged_environment_opens_no_other_folder(base):
    secret = base / "secret"
    (secret / "bin").mkdir(parents=True)
    env = base / "env"
    (env / "bin").mkdir(parents=True)
    (env / "bin" / "python").touch()
    (env / "pyvenv.cfg").write_text(f"home = {secret}/bin\n")
    assert str(secret) not in sandbox.prefixes(str(env / "bin" / "python"))


def test_paths_are_rewritten_where_nothing_can_be_bound():
    mounts = (Mount("/data/m1", "/var/model"), Mount("/data/m1/sub", "/var/model/sub"))

    def rewrite(text):
        return sandbox.rewrite(text, mounts, "/r/x/s")

    assert rewrite("/var/model") == "/data/m1"
    assert rewrite("/var/model/a.txt") == "/data/m1/a.txt"
    assert rewrite("/var/model/sub/a") == "/data/m1/sub/a"
    assert rewrite("/var/models/a") == "/var/models/a"
    assert rewrite("x/var/model") == "x/var/model"
    assert rewrite("unix:/run/s/m.sock") == "unix:/r/x/s/m.sock"


MOUNTS_V2 = "cgroup2 {} cgroup2 rw 0 0\n"
MOUNTS_V1 = (
    "cgroup {0}/mem cgroup rw,memory 0 0\ncgroup {0}/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup {0}/p cgroup rw,pids 0 0\n"
)


def test_cgroup_v2_files(tmp_path):
    (made,) = cgroups.candidates(mounts=MOUNTS_V2.format(tmp_path), own="0::/\n")
    orders = made.spec("portway-1/r1", Resources(1500, 64 * MIB, 9))
    (group,) = orders["cgroups"]
    assert group["path"] == f"{tmp_path}/portway-1/r1"
    assert dict(group["files"]) == {
        "memory.max": str(64 * MIB), "memory.oom.group": "1", "cpu.max": "150000 100000", "pids.max": "9"
    }  # fmt: skip
    assert [path for path, _ in group["before"]] == [
        f"{tmp_path}/cgroup.subtree_control",
        f"{tmp_path}/portway-1/cgroup.subtree_control",
    ]
    assert orders["oom_file"] == f"{tmp_path}/portway-1/r1/memory.events"


def test_cgroup_v2_delegated_by_systemd():
    own = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/portway.service\n"
    found = list(cgroups.candidates(mounts=MOUNTS_V2.format("/cg"), own=own))
    parents = [str(one.parents["memory"]) for one in found]
    assert parents == ["/cg", "/cg/user.slice/user-1000.slice/user@1000.service/app.slice"]


def test_cgroup_v1_shared_hierarchy_is_one_group():
    (made,) = cgroups.candidates(mounts=MOUNTS_V1.format("/cg"), own="")
    orders = made.spec("g/r1", Resources(500, 64 * MIB, 9))
    assert [group["path"] for group in orders["cgroups"]] == ["/cg/mem/g/r1", "/cg/cpu/g/r1", "/cg/p/g/r1"]
    assert orders["usage_files"]["cpu_ns"] == "/cg/cpu/g/r1/cpuacct.usage"
    assert ("cpu.cfs_quota_us", "50000") in orders["cgroups"][1]["files"]


def test_unwritable_cgroups_are_not_used(tmp_path):
    assert cgroups.find(mounts=MOUNTS_V2.format(tmp_path / "none"), own="0::/\n") is None


def test_spec_of_the_probe_is_plain():
    assert ReplicaSpec("probe", "", ("/usr/bin/true",), {}, Resources(1, 1)).network is Network.NONE
