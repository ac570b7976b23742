"""The rows of the family `losses`.

Reductions: "mean" and "sum" give one number, in the dtype computed in (float32 for 16-bit scores), "none" one for each
label or element. A mean over nothing that counts is 0, so that such a batch changes nothing, where torch gives NaN.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnn.function import Argument, Function
from fastnn.table.softmax import exponentials, total

# ---- oracles ----


def _reduced(losses: Any, count: Any, reduction: str) -> tuple[Any, Any]:
    """The loss, and what the gradient of each element's own loss is multiplied by."""
    if reduction == "none":
        return losses, losses.dtype.type(1)
    scale = losses.dtype.type(1) if reduction == "sum" or count == 0 else 1 / losses.dtype.type(count)
    return np.sum(losses, dtype=losses.dtype) * scale, scale


def _one_hot(labels: Any, classes: int, dtype: Any) -> Any:
    """Ignored labels must have been replaced."""
    return (labels[..., None] == np.arange(classes)).astype(dtype)


def cross_entropy_parts(
    logits: Any, labels: Any, weight: Any, ignore_index: int, label_smoothing: float
) -> tuple[Any, Any, Any]:
    """With classes last: the loss and the gradient of each label, and how much it counts."""
    one, classes = logits.dtype.type(1), logits.shape[-1]
    each = np.ones(classes, logits.dtype) if weight is None else np.asarray(weight).astype(logits.dtype)
    smoothing = logits.dtype.type(label_smoothing)
    if labels.dtype.kind in "iu":
        counts = labels != ignore_index
        chosen = np.where(counts, labels, 0)
        target = _one_hot(chosen, classes, logits.dtype) * (one - smoothing)
        weights = np.where(counts, each[chosen] if classes else one, 0)
    else:
        counts = np.ones(labels.shape[:-1], bool)
        target, weights = labels * (one - smoothing), np.ones(labels.shape[:-1], logits.dtype)
    target = (target + smoothing / max(classes, 1)) * each
    d, lost, e, log = exponentials(logits)
    with np.errstate(all="ignore"):
        share = total(target)
        losses = (total(np.where(target == 0, 0, target * -(d + lost))) + share * log)[..., 0]
        rest = total(e) - e  # p - 1 where the target is one class
        gradient = e / total(e) * (share - target) - target * (rest / total(e))
    return np.where(counts, losses, 0), np.where(counts[..., None], gradient, 0), weights


def _cross_entropy(
    logits: Any,
    labels: Any,
    axis: int = 1,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Any, Any]:
    labels = np.asarray(labels)
    logits = np.moveaxis(logits, axis, -1)
    if labels.dtype.kind == "f":
        labels = np.moveaxis(labels, axis, -1)
    losses, gradient, weights = cross_entropy_parts(logits, labels, weight, ignore_index, label_smoothing)
    loss, scale = _reduced(losses, np.sum(weights), reduction)
    return loss, np.moveaxis(gradient * scale, -1, axis)


def _cross_entropy_scale(results: Any, logits: Any, labels: Any, axis: int = 1, **options: Any) -> tuple[Any, Any]:
    """The gradient's error counts in the ulp of target and probability, weighed and averaged."""
    labels = np.asarray(labels)
    reduction, weight = options.get("reduction", "mean"), options.get("weight")
    last = np.moveaxis(logits, axis, -1)
    if labels.dtype.kind == "f":
        labels = np.moveaxis(labels, axis, -1)
    _, _, weights = cross_entropy_parts(last, labels, weight, options.get("ignore_index", -100), 0.0)
    scale = _reduced(weights, np.sum(weights), reduction)[1]
    size = scale * (1 if weight is None else np.max(np.abs(weight), initial=0))
    return results[0], np.full(logits.shape, size)


def _hinge(scores: Any, labels: Any, axis: int = 1, margin: float = 1.0, reduction: str = "mean") -> tuple[Any, Any]:
    last = np.moveaxis(scores, axis, -1)
    chosen = _one_hot(labels, last.shape[-1], last.dtype)
    own = np.take_along_axis(last, labels[..., None], -1)
    excess = np.where(chosen == 1, 0, np.maximum(last - own + last.dtype.type(margin), 0))
    active = (excess > 0).astype(last.dtype)
    gradient = active - chosen * np.sum(active, axis=-1, keepdims=True)
    losses = np.sum(excess, axis=-1)
    loss, scale = _reduced(losses, losses.size, reduction)
    return loss, np.moveaxis(gradient * scale, -1, axis)


def _hinge_scale(
    results: Any, scores: Any, labels: Any, axis: int = 1, margin: float = 1.0, reduction: str = "mean"
) -> tuple[Any, Any]:
    last = np.abs(np.moveaxis(scores, axis, -1))
    own = np.take_along_axis(last, labels[..., None], -1)
    losses = np.sum(last + own + margin, axis=-1)
    return _reduced(losses, losses.size, reduction)[0], results[1]


def _squared_error(x: Any, target: Any, reduction: str = "mean") -> tuple[Any, Any]:
    d = x - target
    loss, scale = _reduced(d * d, d.size, reduction)
    return loss, 2 * scale * d


def _binary(
    logits: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> tuple[Any, Any]:
    return _binary_parts(logits, target, weight, pos_weight, reduction, -1)


def _binary_parts(x: Any, t: Any, weight: Any, pos_weight: Any, reduction: str, sign: int) -> tuple[Any, Any]:
    w = x.dtype.type(1) if weight is None else weight
    p = x.dtype.type(1) if pos_weight is None else pos_weight
    e = np.exp(-np.abs(x))
    log = np.log1p(e)
    high, low = 1 / (1 + e), e / (1 + e)
    losses = w * ((1 - t) * (np.maximum(x, 0) + log) + p * t * (np.maximum(-x, 0) + log))
    slope = (1 - t) * np.where(x >= 0, high, low) + sign * p * t * np.where(x >= 0, low, high)
    loss, scale = _reduced(losses, losses.size, reduction)
    return loss, w * slope * scale


def _binary_scale(results: Any, logits: Any, target: Any, **options: Any) -> tuple[Any, Any]:
    """The two terms of the gradient have opposite signs."""
    values = {"weight": None, "pos_weight": None, "reduction": "mean", **options}
    return results[0], _binary_parts(logits, target, sign=1, **values)[1]


# ---- examples ----


def _class_examples(rng: np.random.Generator) -> Iterable[tuple[Any, Any, int]]:
    """Scores, labels and the axis of the classes."""
    shapes = (((9, 10), 1), ((5, 300), 1), ((3, 21, 5, 7), 1), ((6, 4), -1), ((7, 2), 0), ((1, 1), 1), ((0, 3), 1))
    for index, (shape, axis) in enumerate(shapes):
        positions = tuple(np.delete(shape, axis))
        scores = rng.standard_normal(shape) * (1, 3)[index % 2]
        yield scores, rng.integers(0, shape[axis], positions), axis


def _cross_entropy_examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
    reductions = ("mean", "sum", "none")
    for index, (logits, labels, axis) in enumerate(_class_examples(rng)):
        reduction = reductions[index % 3]
        yield {"logits": logits, "labels": labels, "axis": axis, "reduction": reduction}
        classes = logits.shape[axis]
        weight = rng.uniform(0.5, 2, classes)
        some = np.where(rng.random(labels.shape) < 0.3, -100, labels).astype(np.int32)
        yield {
            "logits": logits,
            "labels": some,
            "axis": axis,
            "weight": weight,
            "reduction": reductions[(index + 1) % 3],
        }
        yield {"logits": logits, "labels": labels, "axis": axis, "label_smoothing": 0.1, "reduction": reduction}
        other = {"weight": weight, "label_smoothing": 0.25, "ignore_index": 1, "reduction": reduction}
        yield {"logits": logits, "labels": labels.astype(np.uint8), "axis": axis, **other}
        soft = rng.random(logits.shape) + 0.01
        soft /= np.sum(soft, axis=axis, keepdims=True)
        yield {"logits": logits, "labels": soft, "axis": axis, "weight": weight, "reduction": reduction}
        yield {"logits": logits, "labels": soft, "axis": axis, "label_smoothing": 0.2, "reduction": "mean"}


def _hinge_examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
    for index, (scores, labels, axis) in enumerate(_class_examples(rng)):
        margin, reduction = (1.0, 0.5)[index % 2], ("mean", "sum", "none")[index % 3]
        yield {"scores": scores, "labels": labels, "axis": axis, "margin": margin, "reduction": reduction}


_SHAPES: tuple[tuple[int, ...], ...] = ((3, 5), (40, 41), (2, 1, 3), (1, 1), (20000,), (0,))


def _squared_error_examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
    for index, shape in enumerate(_SHAPES):
        yield {
            "x": rng.standard_normal(shape),
            "target": rng.standard_normal(shape),
            "reduction": ("mean", "sum", "none")[index % 3],
        }


def _binary_examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
    for index, shape in enumerate(_SHAPES):
        reduction = ("none", "mean", "sum")[index % 3]
        logits = rng.standard_normal(shape) * 3
        hard = rng.integers(0, 2, shape).astype(np.float64)
        yield {"logits": logits, "target": hard, "reduction": reduction}
        weight, pos_weight = rng.uniform(0.5, 2, shape), rng.uniform(1, 3, shape[-1])
        soft = rng.random(shape)
        yield {"logits": logits, "target": soft, "weight": weight, "pos_weight": pos_weight, "reduction": "mean"}
        yield {"logits": logits, "target": soft, "pos_weight": np.full(1, 2.5), "reduction": reduction}


# ---- rows ----

_AXIS = Argument(name="axis", doc="the axis of the classes: 1 in (N, C) and (N, C, *spatial)")
_REDUCTION = Argument(
    name="reduction", doc="'mean', 'sum', or 'none' for an array of the losses; a mean over nothing is 0, not NaN"
)
_LABELS = Argument(
    name="labels", doc="integers from 0 to C - 1, of the shape of the scores without the axis of classes", role="array"
)
_ONE = (
    "A single loss is a NumPy scalar of the dtype computed in, float32 for 16-bit arrays; sums are in double precision."
)
_NONE = "With reduction 'none' the gradient is that of each position's own loss: multiply it by theirs."
_MEMORY = (
    "No memory beyond the results but a few numbers for each thousand elements, unless an array is not C-contiguous, "
    "or labels are not int64: then one copy of it."
)


def _loss_rows(
    *,
    name: str,
    title: str,
    formula: str,
    gradient: str,
    arguments: tuple[Argument, ...],
    by: str,
    source: str,
    notes: tuple[str, ...],
    oracle: Callable[..., tuple[Any, Any]],
    examples: Callable[[np.random.Generator], Iterable[dict[str, Any]]],
    ulp: tuple[float, float],
    scale: Callable[..., tuple[Any, Any]] | None,
    bytes: str,
    operations: str,
) -> tuple[Function, Function]:
    """The row of a loss and that of the loss with its gradient by the argument `by`."""
    axis = next((argument.name for argument in arguments if argument.name == "axis"), None)

    def gradients(dys: tuple[Any, ...], **given: Any) -> dict[str, Any]:
        slope = getattr(importlib.import_module("fastnn"), f"{name}_and_grad")(**given)[1]
        dy = np.asarray(dys[0])
        if dy.ndim and axis is not None:
            dy = np.expand_dims(dy, given.get("axis", 1))
        return {by: slope * dy}

    loss = Argument(name="loss", doc="a number, or an array for reduction 'none'")
    slope = Argument(name=f"d{by}", doc=f"gradient of the loss by {by}, of its shape and dtype")
    out = Argument(name="out", doc=f"where d{by} goes: memory apart from the other arrays")
    common = {"family": "losses", "source": source, "examples": examples, "operations": operations}
    forward = Function(
        name=name,
        title=title,
        formula=formula,
        arguments=arguments,
        returns=(loss,),
        notes=(*notes, _ONE, _MEMORY),
        oracle=lambda **given: oracle(**given)[0],
        ulp=ulp[0],
        scale=None if scale is None else lambda result, **given: scale((result, None), **given)[0],
        gradients=gradients,
        bytes=f"{bytes} read once from memory",
        **common,  # type: ignore[arg-type]
    )
    both = Function(
        name=f"{name}_and_grad",
        title=f"{title}, with its gradient in the same pass",
        formula=f"{formula}; {gradient}",
        arguments=(*arguments, out),
        out_result=1,
        returns=(loss, slope),
        notes=(*notes, _ONE, _NONE, _MEMORY),
        oracle=oracle,
        ulp=ulp,
        scale=scale,
        gradient_of=name,
        bytes=f"{bytes} read once from memory, the gradient written once",
        **common,  # type: ignore[arg-type]
    )
    return forward, both


ROWS: tuple[Function, ...] = (
    *_loss_rows(
        name="cross_entropy",
        title="Cross-entropy of softmax",
        formula="loss = -sum over classes of weight t log_softmax(logits), t = (1 - label_smoothing) target + "
        "label_smoothing / C",
        gradient="dlogits = softmax(logits) (sum of weight t) - weight t",
        by="logits",
        arguments=(
            Argument(name="logits", doc="array of at least one axis, C classes along `axis`", role="array"),
            Argument(
                name="labels",
                doc="integers from 0 to C - 1, of the shape of logits without the axis of classes; or soft labels, "
                "floats of the shape of logits",
                role="array",
            ),
            _AXIS,
            Argument(name="weight", doc="one factor from 0 up for each class; None: 1", role="parameter"),
            Argument(name="ignore_index", doc="integer labels equal to it count nothing"),
            Argument(name="label_smoothing", doc="what part of each target is spread evenly over the classes, 0 to 1"),
            _REDUCTION,
        ),
        source="Bridle (1990), Probabilistic interpretation of feedforward classification network outputs; Szegedy et "
        "al. (2016), Rethinking the Inception architecture for computer vision (label smoothing)",
        notes=(
            "The mean over integer labels is one weighed with the class weights of the labels that count, that over "
            "soft labels one over positions, as in torch.",
            "No logits overflow. A logit of -inf has probability 0 and costs nothing where its target is 0; where all "
            "of a position's are -inf, one is +inf or one is NaN, its loss and gradient are NaN.",
            "Errors of the gradient are counted in the ulp of its largest possible value, that of a target of 1.",
        ),
        oracle=_cross_entropy,
        examples=_cross_entropy_examples,
        ulp=(7, 4),
        scale=_cross_entropy_scale,
        bytes="logits are",
        operations="30 an element; with soft labels or smoothing 20 more",
    ),
    *_loss_rows(
        name="hinge_loss",
        title="Multiclass hinge loss of support vector machines",
        formula="loss = sum over classes other than the label of max(0, score - score of the label + margin)",
        gradient="dscores = 1 where that is positive, and at the label minus their number",
        by="scores",
        arguments=(
            Argument(name="scores", doc="array of at least one axis, C classes along `axis`", role="array"),
            _LABELS,
            _AXIS,
            Argument(name="margin", doc="by how much the label's score should exceed the others, from 0 up"),
            _REDUCTION,
        ),
        source="Weston and Watkins (1999), Support vector machines for multi-class pattern recognition",
        notes=(
            "The sum over classes as in the CS231n lectures; torch.nn.functional.multi_margin_loss divides it by C.",
            "Where a score lies on the edge, its gradient is 0. Errors of the loss are counted in the ulp of the sum "
            "of |score| + |score of the label| + margin.",
        ),
        oracle=_hinge,
        examples=_hinge_examples,
        ulp=(2, 2),
        scale=_hinge_scale,
        bytes="scores are",
        operations="8 an element",
    ),
    *_loss_rows(
        name="squared_error",
        title="Squared error",
        formula="loss = (x - target)^2",
        gradient="dx = 2 (x - target)",
        by="x",
        arguments=(
            Argument(name="x", doc="array of any shape", role="array"),
            Argument(name="target", doc="array of x's shape, converted to x's dtype", role="array"),
            _REDUCTION,
        ),
        source="Legendre (1805), Nouvelles methodes pour la determination des orbites des cometes",
        notes=("There is no factor 1/2: as torch's mse_loss; the mean is one over all elements.",),
        oracle=_squared_error,
        examples=_squared_error_examples,
        ulp=(3, 3),
        scale=None,
        bytes="x and target are",
        operations="3 an element",
    ),
    *_loss_rows(
        name="binary_cross_entropy_with_logits",
        title="Binary cross-entropy on logits",
        formula="loss = weight ((1 - t) softplus(x) + pos_weight t softplus(-x))",
        gradient="dlogits = weight ((1 - t) sigmoid(x) - pos_weight t sigmoid(-x))",
        by="logits",
        arguments=(
            Argument(name="logits", doc="x, array of any shape", role="array"),
            Argument(
                name="target", doc="t, from 0 to 1, of the shape of logits, converted to their dtype", role="array"
            ),
            Argument(name="weight", doc="factors that broadcast to the shape of logits; None: 1", role="parameter"),
            Argument(
                name="pos_weight",
                doc="factors of the positive class that broadcast to the shape of logits; None: 1",
                role="parameter",
            ),
            _REDUCTION,
        ),
        source="Good (1952), Rational decisions; Cox (1958), The regression analysis of binary sequences",
        notes=(
            "The mean is one over all elements, whatever the weights, as in torch. Weights that are neither one number "
            "nor of the shape of logits are copied to that shape.",
            "Errors of the gradient are counted in the ulp of the sum of the magnitudes of its two terms.",
        ),
        oracle=_binary,
        examples=_binary_examples,
        ulp=(5, 6),
        scale=_binary_scale,
        bytes="logits and target are",
        operations="45 an element",
    ),
)
