"""The onnx package's node tests of what only training needs, which loaded networks have not: losses, batch statistics.

test_onnx_backend.py runs those of every operator that networks have.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx", reason="the node tests come with the package onnx")

import onnx
from onnx.backend.test.loader import load_model_tests

import fastnn as fnn

Array = npt.NDArray[Any]
Attributes = dict[str, Any]


def batch_norm(a: Attributes, x: Array, scale: Array, bias: Array, mean: Array, var: Array) -> Any:
    eps, keep = a.get("epsilon", 1e-5), a.get("momentum", 0.9)
    momentum, count = 1 - keep, x.size // x.shape[1]
    new_mean, new_var = mean.copy(), var.copy()
    y = fnn.batch_norm_train(x, scale, bias, new_mean, new_var, momentum, eps)[0]
    # fastnn's running variance is made of the unbiased variance of the batch, the operator's of the biased one.
    unbiased = (new_var - keep * var) / momentum
    return y, new_mean, keep * var + momentum * unbiased * (count - 1) / count


def cross_entropy(a: Attributes, scores: Array, labels: Array, weight: Array | None = None) -> Any:
    options = {"ignore_index": a["ignore_index"]} if "ignore_index" in a else {}
    loss = fnn.cross_entropy(scores, labels, weight=weight, reduction=a.get("reduction", "mean"), **options)
    return loss, fnn.log_softmax(scores, axis=1)


def load() -> dict[str, tuple[Any, Callable[..., Any]]]:
    """The tests by name, and what computes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what onnx computes for other operators overflows here and there
        cases = load_model_tests(kind="node")
    found: dict[str, tuple[Any, Callable[..., Any]]] = {}
    for case in cases:
        if case.model is None or len(case.model.graph.node) != 1:
            continue
        (node,) = case.model.graph.node
        if node.op_type == "SoftmaxCrossEntropyLoss":
            found[case.name] = case, cross_entropy
        elif node.op_type == "BatchNormalization" and attributes(node).get("training_mode", 0):
            found[case.name] = case, batch_norm
    return found


def attributes(node: Any) -> Attributes:
    values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


CASES = load()


def test_both_are_among_them() -> None:
    assert {function for _, function in CASES.values()} == {batch_norm, cross_entropy}


@pytest.mark.parametrize("name", CASES)
def test_node(name: str) -> None:
    case, function = CASES[name]
    (node,) = case.model.graph.node
    for inputs, expected in case.data_sets:
        given = iter([np.asarray(value) for value in inputs])
        results = function(attributes(node), *(next(given) if each else None for each in node.input))
        got = [result for result, each in zip(results, node.output, strict=False) if each]
        assert len(got) == len(expected)
        for value, wanted in zip(got, expected, strict=True):
            assert np.shape(value) == np.shape(wanted) and np.asarray(value).dtype == np.asarray(wanted).dtype
            np.testing.assert_allclose(
                np.asarray(value, np.float64), np.asarray(wanted, np.float64), rtol=case.rtol, atol=case.atol
            )
