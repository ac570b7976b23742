"""The node tests that the onnx package ships, for the operators fastnn has: another party's idea of what is right."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the node tests come with the package onnx")

from onnx.backend.test.loader import load_model_tests
from onnx_ops import OPERATORS, run

OTHER_GENERATOR = "the mask is that of NumPy's generator"
# Node tests that cannot run, and why.
EXCLUDED = {
    "test_clip_default_int8_inbounds": "integers stay integers; fastnn makes them floats",
    "test_clip_default_int8_max": "integers stay integers; fastnn makes them floats",
    "test_clip_default_int8_min": "integers stay integers; fastnn makes them floats",
    "test_clip_min_greater_than_max": "hardtanh refuses a lower bound above the upper one",
    "test_maxpool_2d_uint8": "integers stay integers; fastnn makes them floats",
    "test_swiglu_alpha": "fastnn's SwiGLU has no alpha",
    "test_training_dropout": OTHER_GENERATOR,
    "test_training_dropout_default": OTHER_GENERATOR,
    "test_training_dropout_default_mask": OTHER_GENERATOR,
    "test_training_dropout_mask": OTHER_GENERATOR,
}


def load() -> dict[str, Any]:
    """The tests of one node of those types, by name; composed ones show how an operator can be made of others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what onnx computes for other operators overflows here and there
        cases = load_model_tests(kind="node")
    single = (case for case in cases if case.model is not None and len(case.model.graph.node) == 1)
    return {case.name: case for case in single if case.model.graph.node[0].op_type in OPERATORS}


CASES = load()


def test_every_operator_is_tested_and_no_exclusion_is_stale() -> None:
    tested = {case.model.graph.node[0].op_type for name, case in CASES.items() if name not in EXCLUDED}
    assert tested == set(OPERATORS)
    assert set(EXCLUDED) <= set(CASES)


@pytest.mark.parametrize("name", [name for name in CASES if name not in EXCLUDED])
def test_node(name: str) -> None:
    case = CASES[name]
    for inputs, expected in case.data_sets:
        got = run(case.model.graph.node[0], [np.asarray(value) for value in inputs])
        assert len(got) == len(expected)
        for value, wanted in zip(got, expected, strict=True):
            assert np.shape(value) == np.shape(wanted) and np.asarray(value).dtype == np.asarray(wanted).dtype
            np.testing.assert_allclose(
                np.asarray(value, np.float64), np.asarray(wanted, np.float64), rtol=case.rtol, atol=case.atol
            )
