"""How many CPUs and threads: affinity, quotas of control groups, the user's own limit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lesion_d2 import cpus


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Return a function that lays out control groups as the kernel shows them."""
    monkeypatch.setattr(cpus, "CONTROL_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cpus, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)

    def lay_out(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return lay_out


V1 = "4:memory:/box\n1:cpu,cpuacct:/box/inner\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/box/inner\n", {"box/cpu.max": "300000 100000", "box/inner/cpu.max": "max 100000"}, 3),
        ("0::/box\n", {"other/cpu.max": "100000 100000"}, 8),
        ("0::/of/the/host\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/../../box\n", {"cpu.max": "200000 100000"}, 2),
        (V1, {"cpu,cpuacct/box/cpu.cfs_quota_us": "200000\n",
              "cpu,cpuacct/box/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 8),
        ("0::/\n", {"cpu.max": "damaged"}, 8),
    ],
)  # fmt: skip
def test_a_quota_of_control_groups_counts(groups, own, files, expected):
    groups(own, files)
    assert cpus.available_cpus() == expected


def test_where_there_are_no_control_groups(groups, tmp_path):
    assert cpus.available_cpus() == 8


@pytest.mark.parametrize(
    ("wish", "expected"), [("3", 3), ("16", 16), ("2,1", 2), ("", 8), ("0", 8), ("many", 8)]
)
def test_the_users_own_limit_goes_first(groups, monkeypatch, wish, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", wish)
    assert cpus.thread_limit() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_tools_compute_with_as_many_threads():
    code = """
import os
from lesion_d2.errors import run_tool
def main():
    import torch
    print(os.environ["OMP_NUM_THREADS"], torch.get_num_threads(), os.environ["GOMP_SPINCOUNT"])
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
run_tool(main)
"""
    own = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    env = {key: value for key, value in os.environ.items() if key not in own}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1", "3000"]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system lists no threads")
@pytest.mark.parametrize(("wish", "expected"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2)])
def test_numpy_multiplies_in_one_thread(wish, expected):
    code = """
import os
from lesion_d2.errors import run_tool
def main():
    import numpy as np
    np.ones((500, 500)) @ np.ones((500, 500))
    print(len(os.listdir("/proc/self/task")))
run_tool(main)
"""
    own = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    env = {key: value for key, value in os.environ.items() if key not in own} | wish
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    if os.cpu_count() == 1:
        expected = 1
    assert int(done.stdout) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("OMP_WAIT_POLICY", "ACTIVE", None), ("GOMP_SPINCOUNT", "7", "7"), ("OTHER", "1", "3000")],
)
def test_how_threads_wait_is_the_users_choice(groups, monkeypatch, name, value, expected):
    environment = {name: value}
    monkeypatch.setattr(os, "environ", environment)
    cpus.share_cpus()
    assert environment.get("GOMP_SPINCOUNT") == expected
    assert environment["OMP_NUM_THREADS"] == "8"


def test_how_many_threads_is_the_users_choice(groups, monkeypatch):
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "3"})
    cpus.share_cpus()
    assert os.environ["OMP_NUM_THREADS"] == "3"
