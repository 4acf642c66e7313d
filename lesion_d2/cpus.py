"""How many CPUs a process may use."""

import math
import os
from contextlib import suppress
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def available_cpus() -> int:
    """Return how many CPUs this process may use: by its affinity and its control groups' quota.

    A quota of one and a half CPUs counts as two.
    """
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    return max(1, min([count, *map(math.ceil, _quotas())]))


def thread_limit() -> int:
    """Return how many threads may compute: ``OMP_NUM_THREADS``, else :func:`available_cpus`."""
    wish = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(wish) if wish.isdecimal() and int(wish) else available_cpus()


def share_cpus() -> None:
    """Bound the threads of torch and numpy and how long they wait in loops, before either's import.

    Otherwise torch looks at no quota, and a thread that waits takes a CPU from other programs for
    300,000 rounds. 3,000 cost nothing on an idle machine, where 0 cost a quarter
    (docs/performance.md). The products that numpy computes here are small: with OpenBLAS's threads
    they take longer. What the user set stays.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(available_cpus()))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's; torch's goes by the former
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def _quotas() -> list[float]:
    """Return the quotas, in CPUs, of the control groups that this process is in.

    Both versions: docs.kernel.org/admin-guide/cgroup-v2.html ("cpu.max") and
    docs.kernel.org/scheduler/sched-bwc.html ("cpu.cfs_quota_us"). In a container the path that a
    process sees of its group may be the host's; then the folder at the top is its own.
    """
    found = []
    with suppress(OSError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = CONTROL_GROUPS / controllers
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                if not folder.is_relative_to(top):
                    break
                with suppress(OSError, ValueError):
                    if controllers:
                        quota = (folder / "cpu.cfs_quota_us").read_text()
                        period = (folder / "cpu.cfs_period_us").read_text()
                    else:
                        quota, period = (folder / "cpu.max").read_text().split()
                    if int(quota) > 0:  # -1 and "max" are none
                        found.append(int(quota) / int(period))
    return found
