"""The rows of the family `dropout`.

Everywhere `p` is the probability of DROPPING. It is rounded to a multiple of 2^-16, and scales use that true rate.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnn import generator
from fastnn.function import Argument, Function

# Of SELU's negative branch: -lambda alpha, the value that alpha dropout gives to dropped elements.
ALPHA_PRIME = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717

_P = Argument(
    name="p", doc="probability of dropping, from 0 to 1; in force is the nearest multiple of 2^-16, the true rate"
)
_SEED = Argument(name="seed", doc="the key of the random numbers: an int from 0 to 2^64 - 1, never chosen for you")
_OFFSET = Argument(name="offset", doc="which of the seed's 2^64 streams: an int from 0 to 2^64 - 1, such as the step")
_MODE = Argument(
    name="mode",
    doc="'inverted': what is kept is divided by 1 - rate, and test time needs nothing; "
    "'vanilla': what is kept stays as it is, and test time scales (see dropout_infer)",
)
_OUT = Argument(name="out", doc="where the result goes, the input itself included")


def _masked(unit: str) -> str:
    return (
        f"The mask depends on seed, offset and the number of the {unit} alone, not on threads, strides, instruction "
        "set or backend: equal arguments give equal masks, so backward needs nothing saved. For a fresh mask take the "
        "next offset."
    )


_SELECTED = "What is dropped is 0 even where it was NaN or infinite; p = 0 copies bit by bit, p = 1 gives zeros."
_COPIED = "No memory beyond the result, unless an array or out is not C-contiguous: then one contiguous copy of it."
_HINTON = "Srivastava et al. (2014), Dropout: a simple way to prevent neural networks from overfitting"
_PHILOX = "Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3"


def _start(unit: str) -> Argument:
    return Argument(
        name="start",
        doc=f"the number of the first {unit}, where the array is a piece of a larger one: an int from 0 to 2^63 - 1",
    )


def _array(name: str, doc: str) -> Argument:
    return Argument(name=name, doc=doc, role="array")


# ---- oracles ----


def _scale(p: float, mode: str, number: Any) -> Any:
    """What kept elements are multiplied by."""
    return number(1) if mode == "vanilla" else number(1) / generator.keep_probability(p, number)


def _kept(count: int, p: float, seed: int, offset: int, start: int) -> Any:
    return generator.kept(start, count, generator.threshold(p), seed, offset)


def _scaled(x: Any, kept: Any, p: float, mode: str) -> Any:
    """x where kept, times the scale, else 0."""
    if not kept.any():
        return np.zeros_like(x)
    return np.where(kept, x * _scale(p, mode, x.dtype.type), x.dtype.type(0))


def _dropout(name: str, *, units: int | None = None) -> Callable[..., Any]:
    """The oracle of a function whose first argument is `name`: whole units of the first `units` axes, or elements."""

    def oracle(p: float = 0.5, seed: int = 0, offset: int = 0, mode: str = "inverted", start: int = 0, **x: Any) -> Any:
        array = x[name]
        shape = array.shape if units is None else array.shape[:units]
        kept = _kept(int(np.prod(shape)), p, seed, offset, start).reshape(shape)
        return _scaled(array, kept.reshape(shape + (1,) * (array.ndim - len(shape))), p, mode)

    return oracle


def _affine(p: float, number: Any) -> tuple[Any, Any]:
    """a and b of alpha dropout."""
    q, value = generator.keep_probability(p, number), number(ALPHA_PRIME)
    a = (q + value * value * q * (1 - q)) ** number(-0.5)
    return a, -a * (1 - q) * value


def _alpha_dropout(x: Any, p: float = 0.5, *, seed: int, offset: int = 0, start: int = 0) -> Any:
    if generator.keep_probability(p) == 0:
        return np.zeros_like(x)
    a, b = _affine(p, x.dtype.type)
    kept = _kept(x.size, p, seed, offset, start).reshape(x.shape)
    return a * np.where(kept, x, x.dtype.type(ALPHA_PRIME)) + b


def _alpha_dropout_backward(dy: Any, p: float = 0.5, *, seed: int, offset: int = 0, start: int = 0) -> Any:
    if generator.keep_probability(p) == 0:
        return np.zeros_like(dy)
    kept = _kept(dy.size, p, seed, offset, start).reshape(dy.shape)
    return np.where(kept, dy * _affine(p, dy.dtype.type)[0], dy.dtype.type(0))


def _alpha_scale(y: Any, x: Any, p: float = 0.5, **_: Any) -> Any:
    if generator.keep_probability(p) == 0:
        return y
    a, b = _affine(p, x.dtype.type)
    return abs(a) * np.maximum(abs(x), abs(ALPHA_PRIME)) + abs(b)


def _mask(shape: Any, p: float, *, seed: int, offset: int = 0, start: int = 0) -> Any:
    return _kept(int(np.prod(shape)), p, seed, offset, start).reshape(shape)


# ---- examples ----


def _masks(*options: str) -> Iterable[dict[str, Any]]:
    """Values of p, seed and whatever else the function takes."""
    whole = [
        {"p": 0.5, "seed": 0, "offset": 0, "mode": "inverted", "start": 0},
        {"p": 0.1, "seed": 7, "offset": 3, "mode": "vanilla", "start": 5},
        {"p": 0.9, "seed": 2**64 - 1, "offset": 2**64 - 1, "mode": "inverted", "start": 2**35 - 40},
        {"p": 0.0, "seed": 1, "offset": 0, "mode": "inverted", "start": 0},
        {"p": 1.0, "seed": 1, "offset": 0, "mode": "vanilla", "start": 0},
        {"p": 1e-6, "seed": 1, "offset": 0, "mode": "inverted", "start": 0},
    ]
    return ({name: value for name, value in each.items() if name in ("p", "seed", *options)} for each in whole)


def _examples(name: str, shapes: tuple[tuple[int, ...], ...], *options: str) -> Callable[[Any], Any]:
    def examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
        for index, values in enumerate(_masks(*options)):
            yield {name: rng.standard_normal(shapes[index % len(shapes)]), **values}

    return examples


_ELEMENTS = ((37, 41), (1000,), (3, 5, 67), (2, 1, 3, 33), (1,), (0, 4))
_CHANNELS = ((6, 11, 5, 7), (40, 17), (3, 8, 33), (2, 1, 3, 3, 5), (1, 1), (2, 0, 4))
_SAMPLES = ((20, 3, 5), (60,), (33, 17), (5, 1, 1, 3), (1, 1), (0, 3))


# ---- rows ----


def _backward(name: str, argument: str) -> Callable[..., dict[str, Any]]:
    """Gradients by the public function `name`, whose arguments are those of forward but for the first."""

    def gradients(dys: tuple[Any, ...], **arguments: Any) -> dict[str, Any]:
        arguments.pop(argument)
        return {argument: getattr(importlib.import_module("fastnn"), name)(dys[0], **arguments)}

    return gradients


def _pair(
    name: str,
    argument: str,
    what: str,
    shape: str,
    titles: tuple[str, str],
    *,
    unit: str,
    axes: int | None,
    shapes: tuple[tuple[int, ...], ...],
    source: str,
    notes: tuple[str, ...] = (),
) -> tuple[Function, Function]:
    """The rows of a function that scales what is kept, and of its backward pass."""
    options = (_P, _SEED, _OFFSET, _MODE, _start(unit), _OUT)
    common: dict[str, Any] = {
        "family": "dropout",
        "notes": (*notes, _masked(unit), _SELECTED, _COPIED),
        "source": source,
        "ulp": 1.5,
        "bytes": f"reads {what} once, writes as much",
        "operations": f"2 an element, and 60 a block of 8 {unit}s for the random numbers",
    }
    gradient = f"d{argument}"
    forward = Function(
        name=name,
        title=titles[0],
        formula=f"y = {argument} / (1 - rate) for {unit}s that are kept, 0 for those that are dropped; vanilla: "
        f"y = {argument} for what is kept.",
        arguments=(_array(argument, f"{shape}, any strides"), *options),
        returns=(_array("y", f"array like {argument}"),),
        oracle=_dropout(argument, units=axes),
        examples=_examples(argument, shapes, "offset", "mode", "start"),
        gradients=_backward(f"{name}_backward", argument),
        **common,
    )
    backward = Function(
        name=f"{name}_backward",
        title=titles[1],
        formula=f"{gradient} = dy / (1 - rate) for {unit}s that were kept, 0 for those that were dropped; vanilla: "
        f"{gradient} = dy for what was kept. The mask is drawn anew, at the speed of the forward pass.",
        arguments=(_array("dy", "gradient of the result, of its shape"), *options),
        returns=(_array(gradient, "array like dy"),),
        oracle=_dropout("dy", units=axes),
        examples=_examples("dy", shapes, "offset", "mode", "start"),
        gradient_of=name,
        **common,
    )
    return forward, backward


_ALPHA: dict[str, Any] = {
    "family": "dropout",
    "source": "Klambauer et al. (2017), Self-normalizing neural networks",
    "bytes": "reads the array once, writes as much",
    "operations": "3 an element, and 60 a block of 8 elements for the random numbers",
}
_ALPHA_NOTES = (
    "With q = 1 - rate and alpha' = -lambda alpha = -1.7580993408473766 of SELU, a = (q + alpha'^2 q (1 - q))^-1/2 and "
    "b = -a (1 - q) alpha': inputs of mean 0 and variance 1 keep both, which is what SELU strives for.",
    "q is the true probability of keeping; p = 1 gives zeros.",
)

ROWS: tuple[Function, ...] = (
    *_pair(
        "dropout",
        "x",
        "x",
        "array of any shape",
        ("Dropout, the training pass", "Gradient of dropout"),
        unit="element",
        axes=None,
        shapes=_ELEMENTS,
        source=_HINTON,
    ),
    Function(
        name="dropout_infer",
        family="dropout",
        title="Dropout at test time",
        formula="y = (1 - rate) x for mode 'vanilla', y = x for mode 'inverted'.",
        arguments=(_array("x", "array of any shape, any strides"), _P, _MODE, _OUT),
        returns=(_array("y", "array like x"),),
        source=_HINTON,
        notes=("The same for every function of this family but alpha dropout, which changes nothing at test time.",),
        oracle=lambda x, p=0.5, mode="inverted": (
            x * generator.keep_probability(p, x.dtype.type) if mode == "vanilla" else x.copy()
        ),
        examples=lambda rng: (
            {"x": rng.standard_normal((13, 29)), "p": p, "mode": mode}
            for p, mode in ((0.3, "vanilla"), (0.3, "inverted"), (1.0, "vanilla"), (0.0, "vanilla"))
        ),
        ulp=1.5,
        bytes="reads x once, writes y once",
        operations="1 an element",
    ),
    Function(
        name="dropout_mask",
        family="dropout",
        title="The mask of dropout",
        formula="Element i (in C order, counted from start) is kept where its 16 random bits are at least "
        "round(65536 p): half i % 8 of the Philox block i // 8, low halves first.",
        arguments=(
            Argument(name="shape", doc="shape of the mask: an int or a tuple of ints"),
            _P,
            _SEED,
            _OFFSET,
            _start("element"),
        ),
        returns=(Argument(name="mask", doc="array of bool, True where an element is kept"),),
        source=_PHILOX,
        notes=("For spatial dropout shape is (N, C), for stochastic depth (N,).", _masked("element")),
        oracle=_mask,
        examples=lambda rng: (
            {"shape": shape, **values} for shape, values in zip(_ELEMENTS, _masks("offset", "start"), strict=True)
        ),
        ulp=0,
        bytes="writes 1 byte an element",
        operations="1 an element, and 60 a block of 8 elements",
    ),
    *_pair(
        "spatial_dropout",
        "x",
        "x",
        "array of shape (N, C, *spatial)",
        ("Dropout of whole channels", "Gradient of spatial_dropout"),
        unit="channel",
        axes=2,
        shapes=_CHANNELS,
        source="Tompson et al. (2015), Efficient object localization using convolutional networks",
        notes=("Channel c of sample n has number n C + c. Memory beyond the result: one byte a channel.",),
    ),
    *_pair(
        "stochastic_depth",
        "x",
        "x",
        "array of shape (N, ...), the output of a residual branch",
        ("Stochastic depth: dropout of whole samples of a residual branch", "Gradient of stochastic_depth"),
        unit="sample",
        axes=1,
        shapes=_SAMPLES,
        source="Huang et al. (2016), Deep networks with stochastic depth",
        notes=("The shortcut is added by the caller. Memory beyond the result: one byte a sample.",),
    ),
    *_pair(
        "drop_connect",
        "weight",
        "the weights",
        "weights of a linear layer or a convolution, of any shape",
        ("DropConnect: dropout of weights", "Gradient of drop_connect"),
        unit="weight",
        axes=None,
        shapes=_ELEMENTS,
        source="Wan et al. (2013), Regularization of neural networks using DropConnect",
        notes=(
            "One mask serves the whole batch. The layer is computed with the result, and the gradient of its weights "
            "goes through drop_connect_backward.",
        ),
    ),
    Function(
        name="alpha_dropout",
        title="Alpha dropout, for networks of SELU",
        formula="y = a x + b where an element is kept, a alpha' + b where it is dropped.",
        arguments=(_array("x", "array of any shape, any strides"), _P, _SEED, _OFFSET, _start("element"), _OUT),
        returns=(_array("y", "array like x"),),
        notes=(*_ALPHA_NOTES, _masked("element"), _COPIED),
        oracle=_alpha_dropout,
        examples=_examples("x", _ELEMENTS, "offset", "start"),
        ulp=2,
        scale=_alpha_scale,
        gradients=_backward("alpha_dropout_backward", "x"),
        **_ALPHA,
    ),
    Function(
        name="alpha_dropout_backward",
        title="Gradient of alpha_dropout",
        formula="dx = a dy where an element was kept, 0 where it was dropped. The mask is drawn anew.",
        arguments=(
            _array("dy", "gradient of the result, of its shape"),
            _P,
            _SEED,
            _OFFSET,
            _start("element"),
            _OUT,
        ),
        returns=(_array("dx", "array like dy"),),
        notes=(_ALPHA_NOTES[0], _masked("element"), _COPIED),
        oracle=_alpha_dropout_backward,
        examples=_examples("dy", _ELEMENTS, "offset", "start"),
        ulp=1.5,
        gradient_of="alpha_dropout",
        **_ALPHA,
    ),
    Function(
        name="philox",
        family="dropout",
        title="Philox4x32-10 random words",
        formula="Block i is ten rounds over the counter (i mod 2^32, i // 2^32, offset mod 2^32, offset // 2^32) under "
        "the key (seed mod 2^32, seed // 2^32).",
        arguments=(
            Argument(name="blocks", doc="how many blocks of four words"),
            _SEED,
            _OFFSET,
            Argument(name="first", doc="the number of the first block: an int from 0 to 2^64 - 1"),
        ),
        returns=(Argument(name="words", doc="array of uint32 of shape (blocks, 4)"),),
        source=_PHILOX,
        notes=("The numbers behind every random function of fastnn. Not for cryptography.",),
        oracle=lambda blocks, *, seed, offset=0, first=0: generator.blocks(first, blocks, seed, offset),
        examples=lambda rng: (
            {"blocks": blocks, "seed": seed, "offset": offset, "first": first}
            for blocks, seed, offset, first in ((1, 0, 0, 0), (77, 2**64 - 1, 5, 2**32 - 9), (300, 3, 2**63, 2**64 - 4))
        ),
        ulp=0,
        bytes="writes 16 bytes a block",
        operations="60 a block",
    ),
)
