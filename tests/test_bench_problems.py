"""What the benchmark measures, against whom, and how it judges results: it covers the table, and rivals compute it."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.bench import memory, rivals, runner, suite, timing
from fastnn.bench.accuracy import BITS, ulp
from fastnn.bench.accuracy.activations import OpJudge, stress_values
from fastnn.bench.problems import FAMILIES, FUNCTION_FAMILIES, make_problems, specs, uncovered
from fastnn.bench.problems.activations import Case, Pool
from fastnn.bench.problems.base import Problem
from fastnn.bench.problems.functions import Maker, arrays
from fastnn.bench.rivals.base import Rival
from fastnn.bench.targets import TARGETS
from fastnn.oracle import numpy64
from fastnn.table import FUNCTIONS, OPS


def test_every_function_has_a_benchmark() -> None:
    problems = make_problems(sizes=[10])
    assert uncovered(problems) == []
    assert {spec.family for spec in specs()} == set(FUNCTION_FAMILIES) == {row.family for row in FUNCTIONS.values()}
    left = [one for one in problems if one.function not in ("gelu_backward", "softmax")]
    assert uncovered(left) == ["gelu_backward", "softmax"]
    pairs = suite.benchmarks(suite.contenders(rivals=[]), problems)
    assert suite.missing(pairs) == [] and len(pairs) == len(problems)


def test_specs_name_functions_and_arguments_of_the_table() -> None:
    for spec in specs():
        if spec.row is None:
            assert spec.call is not None and spec.judged is None and spec.function.split("+")[0] in FUNCTIONS
            continue
        assert spec.family == spec.row.family
        assert spec.judged is not None
        names = {argument.name for argument in spec.row.arguments}
        assert set(spec.judged(Maker("float32"))) - {"extra"} <= names, spec.function


def test_targets_are_about_problems_that_are_measured() -> None:
    there = {(one.op, one.direction, one.label) for one in make_problems()}
    assert [target for target in TARGETS if (target.op, target.direction, target.label) not in there] == []
    quick = {(one.op, one.label) for one in make_problems(mandatory=True)}
    assert {(target.op, target.label) for target in TARGETS} <= quick, "--quick has them"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", rivals.RIVALS)
def test_rivals_name_functions_of_the_table_and_compute_them(name: str, family: str) -> None:
    ready, missing = rivals.load([name], threads=1)
    if missing:
        pytest.skip(f"{name}: {missing[name]}")
    (rival,) = ready
    assert suite.strangers(ready) == []
    found = {one.function: one for one in make_problems(sizes=[1000], families=[family]) if rival.supports(one)}
    for problem in found.values():
        check_against_table(rival, problem)


def check_against_table(rival: Rival, problem: Problem) -> None:
    judge = problem.judge()
    if judge is None:
        return
    made = runner.attempt(judge.problem, rival, judge.buffers())
    if made is not None:
        assert judge.agrees(made[1], exact=False), f"{rival.label}, {problem}: {judge.judge(made[1], exact=False)}"


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_problems_exist_in_every_dtype(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    (ours,) = suite.contenders(rivals=[])
    for spec in specs(["softmax", "optimizers", "pooling"]):
        judge = spec.problems(dtype)[-1].judge()
        assert judge is not None
        task = ours.task(judge.problem, judge.buffers())
        assert task is not None and judge.agrees(ours.arrays(task, task.run())), f"{spec.function} {dtype}"


def test_judges_hand_out_fresh_arguments() -> None:
    spec = next(spec for spec in specs(["optimizers"]) if spec.function == "sgd_step")
    judge = spec.problems("float32")[0].judge()
    assert judge is not None
    first = judge.buffers()
    first.param.fill(0)
    assert np.any(judge.buffers().param)


def test_traffic_counts_what_is_updated_in_place_twice() -> None:
    spec = next(spec for spec in specs(["optimizers"]) if spec.function == "sgd_step")
    problem = spec.problems("float32")[1]
    assert problem.label == "65,536" and problem.bytes_moved == 5 * 4 * 65536
    assert problem.size == 65536 and [array.size for array in arrays(problem.arguments)] == [65536] * 3


def test_memory_beyond_results_finds_a_hidden_copy() -> None:
    x, out = np.ones(100_000, np.float32), np.empty(100_000, np.float32)
    assert memory.beyond_results(timing.Task(lambda: np.negative(x))) == 0
    assert memory.beyond_results(timing.Task(lambda: np.negative(x, out=out))) == 0
    assert memory.beyond_results(timing.Task(lambda: (np.negative(x), x[::2]))) == 0
    hidden = memory.beyond_results(timing.Task(lambda: np.negative(x.copy(), out=out)))
    assert x.nbytes <= hidden < x.nbytes + 4096


def test_a_rival_that_fails_is_named_and_the_others_are_measured() -> None:
    class Broken(Rival):
        name = package = "broken"
        factories = {"global_avg_pool": lambda b: lambda: 1 / 0}

    (spec,) = (spec for spec in specs(["pooling"]) if spec.function == "global_avg_pool")
    failures: list[str] = []
    who = [*suite.contenders(rivals=[]), Broken(1)]
    found = runner.measure_problem(spec.problems("float32")[1], who, 0.01, 1, False, failures)
    assert set(found["contenders"]) == {"fastnn native"}
    assert failures == ["broken, global_avg_pool forward, 1x64x32x32 x float32: ZeroDivisionError: division by zero"]


def test_ulp_counts_units_in_the_last_place() -> None:
    one, least = np.float32(1), float(np.finfo(np.float32).smallest_normal)
    want = np.array([1.0, 1.0, 1.0, 0.0, 1e-40, np.nan, 1.0, 1e39, 1e39, 3.0])
    up = np.nextafter(one, np.float32(2))
    got = np.array([1.0, up, up, least, 0.0, np.nan, np.nan, np.inf, np.finfo(np.float32).max, -np.inf])
    expected = [0, 1, 1, 0, 0, 0, np.inf, 0, 1, np.inf]
    np.testing.assert_array_equal(ulp(got.astype(np.float64), want, "float32"), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_judge_finds_a_rounding_and_a_flush_to_zero(dtype: str) -> None:
    pool = Pool(dtype, 512)
    judge = OpJudge(Case("silu", "forward", dtype, 512), pool.x, pool.dy)
    if not judge.possible:
        pytest.skip("needs mpmath")
    exact = judge.want.astype(dtype)
    rounded = judge.judge([exact])
    assert rounded is not None and rounded.stress is not None and max(rounded.sample, rounded.stress) <= 0.5
    flushed = exact.copy()
    tiny = np.argmax(np.where((np.abs(judge.want) > np.finfo(dtype).smallest_normal) & (judge.x < -8), 1, 0))
    flushed[tiny] = 0
    verdict = judge.judge([flushed])
    assert verdict is not None and verdict.stress is not None and verdict.stress >= 2.0 ** (BITS[dtype][0] - 1)
    assert verdict.worst_at == judge.x[tiny]


def test_stress_sample_is_finite_and_reaches_both_ends() -> None:
    values = stress_values("float32")
    assert np.isfinite(values).all()
    assert values.max() > 1e38 and values.min() < -1e38
    assert ((np.abs(values) < 1e-38) & (values != 0)).any()


def test_shared_arrays_are_aligned_and_saved_is_what_backward_wants() -> None:
    pool = Pool("float32", 1001)
    for array in (pool.x, pool.dy, pool.out, pool.scratch, pool.output):
        assert array.ctypes.data % 64 == 0 and array.size == 1001
    assert pool.buffers(Case("gelu", "backward", "float32", 1001)).saved is pool.x
    saved = pool.buffers(Case("tanh", "backward", "float32", 1001)).saved
    np.testing.assert_allclose(saved, OPS["tanh"].forward(numpy64, pool.x.astype(np.float64)), rtol=1e-7)
