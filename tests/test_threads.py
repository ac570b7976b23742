"""Threads: the policy, the pool's promises (fork, exit, many callers), and results that do not depend on any of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import threads
from fastnn.kernels.cpu import threads as pool

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork here")
MILLISECOND = 1_000_000  # in nanoseconds


@pytest.fixture(autouse=True)
def keep_number():
    before = fnn.get_num_threads()
    yield
    fnn.set_num_threads(before)


def run_python(code: str, folder: Path, timeout: float = 300, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, outside the source tree, without the thread settings of this one."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "FASTNN_NUM_THREADS")}
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        env={**inherited, **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def check(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# The policy.


@pytest.mark.parametrize(
    ("environ", "cores", "quota", "number", "source"),
    [
        ({}, 8, None, 8, "usable cores"),
        ({}, 8, 2.5, 3, "cgroup quota of 2.5 cores"),
        ({}, 8, 0.1, 1, "cgroup quota of 0.1 cores"),
        ({}, 2, 16.0, 2, "usable cores"),
        ({"OMP_NUM_THREADS": "4"}, 8, None, 4, "OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": " 4 , 2"}, 8, None, 4, "OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "16"}, 8, None, 8, "usable cores"),
        ({"OMP_NUM_THREADS": "0"}, 8, None, 8, "usable cores"),
        ({"OMP_NUM_THREADS": "many"}, 8, None, 8, "usable cores"),
        ({"FASTNN_NUM_THREADS": "3"}, 8, None, 3, "FASTNN_NUM_THREADS"),
        ({"FASTNN_NUM_THREADS": ""}, 8, None, 8, "usable cores"),
        ({"FASTNN_NUM_THREADS": "9" * 5000}, 8, None, 8, "usable cores"),
        ({"FASTNN_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 8, None, 2, "OMP_NUM_THREADS"),
        ({"FASTNN_NUM_THREADS": "2", "OMP_NUM_THREADS": "3"}, 8, 4.0, 2, "FASTNN_NUM_THREADS"),
    ],
)
def test_the_smallest_limit_counts(environ, cores, quota, number, source):
    assert threads.choose(environ, cores, quota) == threads.Choice(number, source)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "4,2", "²"])
def test_a_wrong_number_in_our_own_variable_is_named(value):
    with pytest.raises(ValueError, match="FASTNN_NUM_THREADS"):
        threads.choose({"FASTNN_NUM_THREADS": value}, 8)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5, id="v2"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, None, id="v2 without a limit"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4.0, id="v2, above"),
        pytest.param(
            "0::/a/b\n", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "50000 100000"}, 0.5, id="v2, smallest"
        ),
        pytest.param("0::/\n", {"cpu.max": "200000 100000"}, 2.0, id="v2, container"),
        pytest.param("0::/../../x\n", {"cpu.max": "200000 100000"}, 2.0, id="v2, outside the namespace"),
        pytest.param("0::/a\n", {"unified/a/cpu.max": "200000 100000"}, 2.0, id="v2 beside v1"),
        pytest.param("0::/a\n", {"a/cpu.max": "nonsense"}, None, id="v2, unreadable"),
        pytest.param(
            "4:cpu,cpuacct:/docker/1\n",
            {"cpu,cpuacct/docker/1/cpu.cfs_quota_us": "250000", "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000"},
            2.5,
            id="v1",
        ),
        pytest.param(
            "9:name=systemd:/\n4:cpuacct,cpu:/host/path\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"},
            2.0,
            id="v1, container",
        ),
        pytest.param(
            "1:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, None, id="v1, no limit"
        ),
        pytest.param("3:cpuset:/a\n", {"cpuset/a/cpu.cfs_quota_us": "1"}, None, id="another controller"),
        pytest.param("", {}, None, id="nothing"),
    ],
)
def test_cgroup_quota(tmp_path, own, files, quota):
    write(tmp_path / "root", files)
    write(tmp_path, {"own": own})
    assert threads.cgroup_quota(str(tmp_path / "root"), str(tmp_path / "own")) == quota


def test_no_cgroups_at_all(tmp_path):
    assert threads.cgroup_quota(str(tmp_path), str(tmp_path / "missing")) is None


def test_the_default_is_within_the_usable_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    assert 1 <= fnn.threads.default_num_threads() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "FASTNN_NUM_THREADS"])
def test_variables_limit_at_import(tmp_path, variable):
    code = "import fastnn as fnn; print(fnn.get_num_threads(), fnn.threads.current().source)"
    number, source = check(run_python(code, tmp_path, **{variable: "1"})).split(" ", 1)
    assert number == "1"
    assert source in (variable, "usable cores") or source.startswith("cgroup")  # the latter two on a single core


def test_a_wrong_variable_fails_the_import(tmp_path):
    done = run_python("import fastnn", tmp_path, FASTNN_NUM_THREADS="lots")
    assert done.returncode != 0
    assert "ValueError: FASTNN_NUM_THREADS" in done.stderr and "'lots'" in done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no os.sched_setaffinity here")
def test_affinity_counts(tmp_path):
    code = """if True:
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import fastnn as fnn
        print(fnn.get_num_threads())
    """
    assert check(run_python(code, tmp_path)) == "1"


# Setting it.


@pytest.mark.parametrize("n", [1, 2, 7, np.int64(3), 10_000])
def test_set_and_get(n):
    fnn.set_num_threads(n)
    assert fnn.get_num_threads() == n
    assert threads.current() == threads.Choice(int(n), "set_num_threads")


@pytest.mark.parametrize(
    ("n", "error"),
    [
        (0, ValueError),
        (-3, ValueError),
        (2**31, ValueError),
        (10**100, ValueError),
        (True, TypeError),
        (np.True_, TypeError),
        (2.0, TypeError),
        ("2", TypeError),
        (None, TypeError),
    ],
)
def test_wrong_numbers_change_nothing(n, error):
    fnn.set_num_threads(3)
    with pytest.raises(error, match=r"set_num_threads: n must be an integer, at least 1"):
        fnn.set_num_threads(n)
    assert fnn.get_num_threads() == 3


@pytest.mark.parametrize("first", ["fastnn", "threadpoolctl"])
def test_threadpoolctl_finds_and_limits(tmp_path, first):
    pytest.importorskip("threadpoolctl", minversion="3.2")
    code = f"""if True:
        import {first}
        import fastnn as fnn, json, threadpoolctl
        fnn.set_num_threads(3)
        seen = [fnn.get_num_threads()]
        with threadpoolctl.threadpool_limits(1):
            seen += [fnn.get_num_threads(), fnn.threads.current().source]
        seen.append(fnn.get_num_threads())
        with threadpoolctl.threadpool_limits(2, user_api="fastnn"):
            seen.append(fnn.get_num_threads())
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            seen.append(fnn.get_num_threads())
        found = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "fastnn"]
        print(json.dumps([seen, [(library["internal_api"], library["num_threads"]) for library in found]]))
    """
    seen, found = json.loads(check(run_python(code, tmp_path)))
    assert seen == [3, 1, "threadpoolctl", 3, 2, 3]
    assert found == [["fastnn", 3]]


# The pool by itself.


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize(("n", "grain"), [(0, 4), (1, 4), (3, 4), (4, 4), (5, 4), (8, 4), (9, 4), (1000, 7), (64, 1)])
def test_chunks_depend_on_size_and_grain_only(count, n, grain):
    fnn.set_num_threads(count)
    chunks = [(begin, end) for begin, end, _ in pool.trace(n, grain)]
    assert chunks == [(begin, min(begin + grain, n)) for begin in range(0, n, grain)]


def test_every_thread_takes_part_and_none_beyond_the_number():
    fnn.set_num_threads(3)
    ran_by: set[int] = set()
    patience = time.monotonic() + 60  # a loaded machine may be slow to give a new thread its first turn
    while len(ran_by) < 3 and time.monotonic() < patience:
        ran_by = {thread for _, _, thread in pool.trace(30, 1, MILLISECOND)}
        assert len(ran_by) <= 3
    assert len(ran_by) == 3
    assert threading.get_ident() in ran_by
    fnn.set_num_threads(1)
    assert {thread for _, _, thread in pool.trace(30, 1)} == {threading.get_ident()}


@pytest.mark.parametrize(("n", "grain", "nanoseconds"), [(-1, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_trace_refuses_what_it_cannot_run(n, grain, nanoseconds):
    with pytest.raises(ValueError, match="trace"):
        pool.trace(n, grain, nanoseconds)
    with pytest.raises(MemoryError, match="chunks"):
        pool.trace(2**63 - 1, 1)


def test_overhead_is_a_time():
    fnn.set_num_threads(2)
    assert 0 < pool.overhead(50) < 10  # seconds: whatever else the machine has to do
    with pytest.raises(ValueError, match="repeats"):
        pool.overhead(0)


def test_a_busy_pool_does_not_hold_up_other_callers():
    fnn.set_num_threads(2)
    with ThreadPoolExecutor(8) as executor:
        traces = list(executor.map(lambda _: pool.trace(50, 1, MILLISECOND // 20), range(64)))
    assert all([begin for begin, _, _ in trace] == list(range(50)) for trace in traces)


def test_no_thread_before_the_first_loop_that_needs_one(tmp_path):
    code = """if True:
        import fastnn as fnn, numpy as np
        from fastnn.kernels.cpu import threads as pool
        fnn.set_num_threads(4)
        fnn.relu(np.ones(100, np.float32))
        before = pool.started_threads()
        pool.trace(2, 1)
        middle = pool.started_threads()
        pool.trace(100, 1)
        print(before, middle, pool.started_threads())
    """
    assert check(run_python(code, tmp_path)) == "0 1 3"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_signals_do_not_reach_the_pool(tmp_path):
    code = """if True:
        import fastnn as fnn
        from fastnn.kernels.cpu import threads as pool
        from pathlib import Path
        fnn.set_num_threads(3)
        pool.trace(3, 1, 1000000)
        blocked = []
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().strip() == "fastnn":
                status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
                blocked.append(int(status["SigBlk"], 16))
        stoppable = sum(1 << (number - 1) for number in range(1, 32) if number not in (9, 19))
        print(len(blocked), all(mask & stoppable == stoppable for mask in blocked))
    """
    assert check(run_python(code, tmp_path)) == "2 True"


def test_exit_is_prompt_and_clean(tmp_path):
    code = """if True:
        import fastnn as fnn, numpy as np, threading, time
        fnn.set_num_threads(4)
        x = np.ones(2_000_000, np.float32)
        def work():
            while True:
                fnn.sigmoid(x)
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
        print("leaving")
    """
    done = run_python(code, tmp_path, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "leaving", "")


# Fork. Each in a process of its own, so that a hang is a failure and not the end of the test run.


@needs_fork
@pytest.mark.parametrize("count", [2, 4])
def test_fork_after_a_parallel_call(tmp_path, count):
    code = f"""if True:
        import fastnn as fnn, numpy as np, os
        from fastnn.kernels.cpu import threads as pool
        fnn.set_num_threads({count})
        x = np.linspace(-8, 8, 2_000_000, dtype=np.float32)
        y = fnn.sigmoid(x)
        def child():
            same = np.array_equal(fnn.sigmoid(x), y)
            return 0 if same and fnn.get_num_threads() == {count} and pool.trace(9, 1) and pool.started_threads() else 1
        for generation in range(3):  # a child, its child, and that one's
            pid = os.fork()
            if pid:
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                break
            code = child()
            if code:
                break
        os._exit(code)
    """
    check(run_python(code, tmp_path))


@needs_fork
def test_fork_while_other_threads_are_at_work(tmp_path):
    code = """if True:
        import fastnn as fnn, numpy as np, os, threading
        fnn.set_num_threads(3)
        x = np.linspace(-8, 8, 500_000, dtype=np.float32)
        y = fnn.sigmoid(x)
        stop = threading.Event()
        def work():
            while not stop.is_set():
                fnn.sigmoid(x)
        workers = [threading.Thread(target=work) for _ in range(2)]
        for worker in workers:
            worker.start()
        codes = []
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if all(np.array_equal(fnn.sigmoid(x), y) for _ in range(3)) else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        stop.set()
        for worker in workers:
            worker.join()
        print(set(codes))
    """
    assert check(run_python(code, tmp_path)) == "{0}"


@needs_fork
def test_multiprocessing_with_fork(tmp_path):
    code = """if True:
        import fastnn as fnn, multiprocessing, numpy as np
        fnn.set_num_threads(2)
        x = np.linspace(-8, 8, 2_000_000, dtype=np.float32)
        def total(shift):
            return float(fnn.sigmoid(x + np.float32(shift)).sum(dtype=np.float64))
        expected = [total(shift) for shift in range(4)]
        with multiprocessing.get_context("fork").Pool(2) as processes:
            print(processes.map(total, range(4)) == expected)
    """
    assert check(run_python(code, tmp_path)) == "True"


# Results.

SIZES = [1, 63, 4095, 4096, 4097, 16_383, 16_385, 32_769, 65_535, 65_537, 131_073, 1_000_003, 2_000_000]


@pytest.mark.parametrize("name", ["relu", "sigmoid", "gelu", "sin"])
@pytest.mark.parametrize("n", SIZES)
def test_results_do_not_depend_on_the_number_of_threads(name, n):
    x = np.random.default_rng(n).normal(scale=4, size=n).astype(np.float32)
    function = getattr(fnn, name)
    fnn.set_num_threads(1)
    expected = function(x)
    for count in (2, 3, 8):
        fnn.set_num_threads(count)
        np.testing.assert_array_equal(function(x).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_many_python_threads_at_once(dtype):
    fnn.set_num_threads(2)
    inputs = [np.random.default_rng(i).normal(scale=4, size=2_000_000).astype(dtype) for i in range(4)]
    expected = [fnn.sigmoid(x) for x in inputs]
    start = threading.Barrier(8)

    def work(i: int) -> bool:
        start.wait()
        out = np.empty_like(inputs[i % 4])
        same = True
        for _ in range(5):
            fnn.sigmoid(inputs[i % 4], out=out)
            same = same and np.array_equal(out, expected[i % 4])
        return same

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(work, range(8)))


def test_changing_the_number_while_others_work():
    x = np.linspace(-8, 8, 300_000, dtype=np.float32)
    expected = fnn.sigmoid(x)

    def change(_: int) -> bool:
        for count in (1, 4, 2, 3):
            fnn.set_num_threads(count)
        return True

    def work(_: int) -> bool:
        return np.array_equal(fnn.sigmoid(x), expected)

    with ThreadPoolExecutor(6) as executor:
        jobs = [executor.submit(work if i % 2 else change, i) for i in range(200)]
        assert all(job.result() for job in jobs)
