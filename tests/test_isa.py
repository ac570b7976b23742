"""Instruction sets: which there are, choosing one, and that they agree."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from layouts import DTYPES, PASSES, Pass, active, assert_same_bits, bits

import fastnn as fnn
from fastnn.kernels.cpu import activations, runtime
from fastnn.table import OPS

X86 = platform.machine().lower() in ("x86_64", "amd64")
# Which instruction sets give the same bits: all that multiply and add in one step.
FUSED = [isa for isa in runtime.isas() if isa != "v2"]


def import_with(value: str) -> subprocess.CompletedProcess[str]:
    code = "from fastnn.kernels.cpu import runtime; import fastnn\n"
    code += "print(runtime.isa(), fastnn.relu([-1.0, 2.0]).tolist())"
    environ = {**os.environ, "FASTNN_ISA": value}
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)


def test_what_is_built() -> None:
    assert runtime.built() == (("v2", "v3", "v4") if X86 else ("neon",))
    assert runtime.isas() == runtime.built()[: len(runtime.isas())] and runtime.isas()
    assert runtime.isa() in runtime.isas()


def test_the_list_of_ops_is_the_table() -> None:
    assert sorted(activations.names()) == sorted(OPS)


@pytest.mark.parametrize("isa", runtime.isas())
def test_environment_variable(isa: str) -> None:
    done = import_with(isa)
    assert done.stdout.split() == [isa, "[0.0,", "2.0]"], done.stderr


def test_empty_environment_variable_is_none() -> None:
    assert import_with("").stdout.split()[0] == runtime.isas()[-1]


@pytest.mark.parametrize("value", ["v9", "neon" if X86 else "v3", "V2", "v2,v3", "native", " "])
def test_impossible_environment_variable(value: str) -> None:
    done = import_with(value)
    assert done.returncode != 0 and done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: ") and "FASTNN_ISA" in last and repr(value) in last
    assert all(repr(isa) in last for isa in runtime.isas())


def test_set_isa() -> None:
    before = runtime.isa()
    for isa in runtime.isas():
        with active(isa):
            assert runtime.isa() == isa
    assert runtime.isa() == before
    for wrong, error in (("v9", ValueError), ("", ValueError), (None, TypeError), (3, TypeError), (b"v3", TypeError)):
        with pytest.raises(error, match=r"set_isa: name is .*expected one of '"):
            runtime.set_isa(wrong)  # type: ignore[arg-type]
    assert runtime.isa() == before


@pytest.mark.skipif(len(FUSED) < 2, reason="there is only one instruction set with fused multiply-add here")
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("run", PASSES, ids=repr)
def test_same_bits_on_every_instruction_set(run: Pass, dtype: np.dtype[Any]) -> None:
    inputs = run.inputs(dtype, 4000)
    with active(FUSED[0]):
        expected = run(*inputs)
    for isa in FUSED[1:]:
        with active(isa):
            assert_same_bits(run(*inputs), expected)


@pytest.mark.skipif("v2" not in runtime.isas(), reason="is about x86-64-v2")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("run", PASSES, ids=repr)
def test_v2_differs_in_the_last_bits_at_most(run: Pass, dtype: str) -> None:
    inputs = run.inputs(np.dtype(dtype), 4000)
    with active("v2"):
        got = run(*inputs)
    expected = run(*inputs)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(bits(got)[~finite], bits(expected)[~finite])
    np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(expected[finite]))
    ulps = np.abs(got[finite].view(f"i{got.itemsize}") - expected[finite].view(f"i{got.itemsize}"))
    # Both are as near to the exact value as is promised.
    near = run.op.near_zero(inputs[-1], run.params)[finite] & (run.direction == "backward")
    assert ulps[~near].max() <= 2 * (run.op.forward_ulp if run.direction == "forward" else run.op.backward_ulp)
    if near.any():
        error = np.abs(got[finite] - expected[finite])[near] / np.abs(inputs[0][finite][near])
        assert error.max() <= 2 * (2.0**-22 if dtype == "float32" else 2.0**-51)
    if not run.op.transcendental and run.op.name not in ("hardsigmoid", "hardswish", "softsign"):
        assert ulps.max() == 0


def test_the_choice_holds_for_every_thread_and_function() -> None:
    """v2 and v3 differ somewhere, so that it shows which one ran."""
    if "v2" not in runtime.isas() or not FUSED:
        pytest.skip("needs two instruction sets with different bits")
    x = np.linspace(-8, 8, 100_001, dtype=np.float32)
    results = {}
    for isa in ("v2", FUSED[0]):
        with active(isa):
            results[isa] = fnn.gelu(x)
            assert_same_bits(fnn.ufuncs.gelu(x), results[isa])
            assert_same_bits(fnn.gelu(np.repeat(x, 2)[::2]), results[isa])
    assert (results["v2"] != results[FUSED[0]]).any()
