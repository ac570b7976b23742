"""The node tests of the onnx package, as files that `fnn.onnx.load` reads: all whose operators are supported."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the node tests come with the package onnx")

import onnx
from onnx.backend.test.loader import load_model_tests

import fastnn as fnn
from fastnn.onnx.graph import Graph
from fastnn.onnx.reading import read

INFERENCE = "training mode; loaded networks are for inference"
EXCLUDED = {
    "test_batchnorm_epsilon_training_mode": INFERENCE,
    "test_batchnorm_example_training_mode": INFERENCE,
    "test_dropout_default_old": "opset 11",
    "test_dropout_random_old": "opset 11",
    "test_identity_opt": "an optional value, no tensor",
    "test_identity_sequence": "a sequence, no tensor",
    "test_training_dropout": INFERENCE,
    "test_training_dropout_default": INFERENCE,
    "test_training_dropout_default_mask": INFERENCE,
    "test_training_dropout_mask": INFERENCE,
}


def load() -> dict[str, Any]:
    """The tests by name; those of several nodes show how an operator can be made of others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what onnx computes for other operators overflows here and there
        cases = load_model_tests(kind="node")
    known = fnn.onnx.OPERATORS
    return {
        case.name: case
        for case in cases
        if case.model is not None and all(not n.domain and n.op_type in known for n in case.model.graph.node)
    }


CASES = load()


def test_every_operator_is_tested_and_no_exclusion_is_stale() -> None:
    tested = {node.op_type for name, case in CASES.items() if name not in EXCLUDED for node in case.model.graph.node}
    assert tested == set(fnn.onnx.OPERATORS)
    assert set(EXCLUDED) <= set(CASES)


@pytest.mark.parametrize("name", [name for name in CASES if name not in EXCLUDED])
def test_node(name: str, tmp_path: Path) -> None:
    """As what `load` makes of it, which for chains is layers, and as a graph."""
    case, path = CASES[name], tmp_path / "model.onnx"
    path.write_bytes(case.model.SerializeToString())
    for model in (fnn.onnx.load(path), Graph(read(onnx, path, fnn.onnx.OPERATORS), "model")):
        check(model, case)
        if len(case.data_sets[0][0]) == len(case.data_sets[0][1]) == 1:
            check_compiled(model, case)


def check_compiled(model: fnn.nn.Module, case: Any) -> None:
    """A session of it answers alike; if it cannot, for samples are no rows of these tests' arrays, it says why."""
    ((given,), (wanted,)) = (tuple(np.asarray(value) for value in values) for values in case.data_sets[0])
    if given.ndim < 2 or wanted.ndim < 1 or given.dtype != wanted.dtype or given.dtype.kind != "f":
        return
    try:
        session = fnn.compile(model, given.shape[1:], dtype=given.dtype)
    except (TypeError, ValueError) as error:
        assert str(error).startswith("compile: ")
        return
    got = session(given)
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=max(case.rtol, 1e-5), atol=max(case.atol, 1e-6))


def check(model: fnn.nn.Module, case: Any) -> None:
    for inputs, expected in case.data_sets:
        given = tuple(np.asarray(value) for value in inputs)
        got = model(given[0] if len(given) == 1 else given)
        got = got if isinstance(got, tuple) else (got,)
        assert len(got) == len(expected)
        for value, wanted in zip(got, expected, strict=True):
            assert value.shape == np.shape(wanted) and value.dtype == np.asarray(wanted).dtype
            np.testing.assert_allclose(
                np.asarray(value, np.float64), np.asarray(wanted, np.float64), rtol=case.rtol, atol=case.atol
            )
