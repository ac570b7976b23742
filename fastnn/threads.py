"""How many threads the native kernels use.

The default is one thread per usable core: the cores that this process may run on (its affinity), within the CPU quota
of its cgroup, within ``OMP_NUM_THREADS`` and within ``FASTNN_NUM_THREADS``. All of it is read once, at import: after a
change of affinity (``os.sched_setaffinity``) or quota, call ``set_num_threads(default_num_threads())``.

``set_num_threads`` overrides the default, upwards too. ``threadpoolctl`` finds fastnn, and limits it, as user API
``"fastnn"``. The results never depend on the number of threads.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fastnn.kernels.cpu import threads as pool

__all__ = ["default_num_threads", "get_num_threads", "set_num_threads"]

INT_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Choice:
    """A number of threads and where it came from."""

    number: int
    source: str


def get_num_threads() -> int:
    """Return the number of threads that one call may use, the calling thread included."""
    return int(pool.get_num_threads())


def set_num_threads(n: int) -> None:
    """Let every call from now on, from any Python thread, use up to `n` threads; 1 makes fastnn single-threaded."""
    global _choice
    if isinstance(n, (bool, np.bool_)):
        raise TypeError(f"set_num_threads: n must be an integer, at least 1; got the bool {n}")
    try:
        number = operator.index(n)
    except TypeError:
        raise TypeError(
            f"set_num_threads: n must be an integer, at least 1; got {n!r} of type {type(n).__name__}"
        ) from None
    if not 1 <= number <= INT_MAX:
        raise ValueError(f"set_num_threads: n must be an integer, at least 1 and at most {INT_MAX}; got {number}")
    _choice = Choice(number, "set_num_threads")
    pool.set_num_threads(number)


def default_num_threads() -> int:
    """Return the number of threads that fastnn would start with now, from usable cores, quota and environment."""
    return choose(os.environ).number


def current() -> Choice:
    """Return the number of threads in force and where it came from."""
    number, choice = get_num_threads(), _choice
    return choice if number == choice.number else Choice(number, "threadpoolctl")


def choose(environ: Mapping[str, str], cores: int | None = None, quota: float | None = None) -> Choice:
    """Apply the policy to an environment; cores and quota are read from the system unless given."""
    if cores is None:
        cores, quota = affinity_cores(), cgroup_quota()
    choice = Choice(cores, "usable cores")
    limits: list[Choice] = []
    if quota is not None:
        limits.append(Choice(max(1, math.ceil(quota)), f"cgroup quota of {quota:g} cores"))
    if (omp := parse_omp(environ.get("OMP_NUM_THREADS", ""))) is not None:
        limits.append(Choice(omp, "OMP_NUM_THREADS"))
    if (own := parse_own(environ.get("FASTNN_NUM_THREADS", ""))) is not None:
        limits.append(Choice(own, "FASTNN_NUM_THREADS"))
    for limit in limits:
        if limit.number < choice.number:
            choice = limit
    return choice


def parse_omp(value: str) -> int | None:
    """Read the first number of OMP_NUM_THREADS ("4" or, for nested levels, "4,2"); None if there is none to respect.

    The variable belongs to OpenMP: what it makes of a wrong value (a warning, mostly) is its affair.
    """
    return _positive(value.split(",")[0])


def parse_own(value: str) -> int | None:
    """Read FASTNN_NUM_THREADS; None if it is not set or empty, ValueError if it is no number of threads."""
    if not value.strip():
        return None
    number = _positive(value)
    if number is None:
        raise ValueError(f"FASTNN_NUM_THREADS must be an integer, at least 1; got {value!r}")
    return number


def _positive(text: str) -> int | None:
    text = text.strip()
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text) if len(text) < 20 else INT_MAX  # int() refuses text of thousands of digits
    return min(number, INT_MAX) if number >= 1 else None


def affinity_cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13; also honours -X cpu_count and PYTHON_CPU_COUNT
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_quota(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> float | None:
    """Return the CPU quota of this process in cores (2.5: two and a half), or None if there is none to be found.

    A cgroup is also held to the quotas of those above it, so the smallest on the way to the root counts.
    """
    try:
        lines = _read(own).splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:  # version 2, mounted beside version 1 at "unified" on mixed systems
            mounts, read = [root, f"{root}/unified"], _quota_v2
        elif "cpu" in controllers.split(","):
            mounts, read = [f"{root}/{controllers}", f"{root}/cpu"], _quota_v1
        else:
            continue
        for folder in _up_to_root(mounts, path):
            if (quota := read(folder)) is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _up_to_root(mounts: list[str], path: str) -> Iterator[str]:
    """List a cgroup's folder and those above it, under every mount. Within a container often only the root exists."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for mount in mounts:
        for depth in range(len(parts), -1, -1):
            yield "/".join([mount, *parts[:depth]])


def _quota_v2(folder: str) -> float | None:
    try:
        quota, period = _read(f"{folder}/cpu.max").split()
        return _cores(int(quota), int(period))
    except (OSError, ValueError):  # not there, or "max": no limit
        return None


def _quota_v1(folder: str) -> float | None:
    try:
        quota = int(_read(f"{folder}/cpu.cfs_quota_us"))
        return _cores(quota, int(_read(f"{folder}/cpu.cfs_period_us")))
    except (OSError, ValueError):
        return None


def _read(path: str) -> str:
    with open(
        path, errors="replace"
    ) as file:  # pathlib would take a good part of the time that importing fastnn may take
        return file.read()


def _cores(quota: int, period: int) -> float | None:
    return quota / period if quota > 0 and period > 0 else None  # a quota of -1 means no limit


def _register_with_threadpoolctl() -> None:
    """Let threadpoolctl list and limit fastnn: it does so only for libraries that register."""
    try:
        from threadpoolctl import LibController, register
    except ImportError:  # not installed, or older than 3.2, which knows no other libraries than its own
        return

    class FastnnController(LibController):  # type: ignore[misc]
        user_api = "fastnn"
        internal_api = "fastnn"
        # The very name of our library: a shorter prefix would have threadpoolctl open other people's.
        filename_prefixes = (os.path.basename(os.path.realpath(pool.__file__)).lower(),)
        check_symbols = ("fastnn_get_num_threads", "fastnn_set_num_threads")

        def get_num_threads(self) -> int:
            return int(self.dynlib.fastnn_get_num_threads())

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.fastnn_set_num_threads(num_threads)

        def get_version(self) -> str | None:
            from importlib.metadata import PackageNotFoundError, version

            try:
                return version("fastnn")
            except PackageNotFoundError:
                return None

    register(FastnnController)


_cores_now, _quota_now = affinity_cores(), cgroup_quota()
_choice = choose(os.environ, _cores_now, _quota_now)
pool.set_usable_cores(choose({}, _cores_now, _quota_now).number)
pool.set_num_threads(_choice.number)
_register_with_threadpoolctl()
