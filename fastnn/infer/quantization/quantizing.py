"""`fnn.quantize`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from fastnn.arguments import real_number
from fastnn.devices import on_host
from fastnn.infer.graph import Graph, Step
from fastnn.infer.quantization.calibration import Execution, Samples, check_shape, gathered, ranges
from fastnn.infer.quantization.numbers import Affine, sqnr
from fastnn.infer.quantization.report import QuantizationReport, QuantizedStep
from fastnn.infer.quantization.rewriting import Rewriting, dynamic, unfused
from fastnn.infer.session import Session, checked_lengths

if TYPE_CHECKING:
    from fastnn.nn import Module

_MEASURED = 256  # samples of which the noise of every step is measured


def quantize(
    model: Module,
    calibration_data: Any = None,
    input_shape: SupportsIndex | Sequence[SupportsIndex] | None = None,
    batch: SupportsIndex | None = None,
    *,
    method: str = "minmax",
    percentile: float = 99.99,
    exclude: Iterable[str] = (),
    max_samples: SupportsIndex | None = 1024,
    threads: SupportsIndex | None = None,
) -> Session:
    """Compile a model for inference in int8: a session as `fnn.compile` makes it, float32 in and out.

        session = fnn.quantize(model, fnn.data.Loader(train, transforms=[normalize]))
        print(session.report)

    Weights are int8, symmetric, with a scale for each output (batch norm is folded into them before); values between
    layers are uint8 with one scale and zero point each, chosen so that they cover what the calibration data give. Sums
    are exact int32. A value q stands for scale (q - zero_point); results of a layer become bytes by
    zero_point + round(float32(sum) * multiplier), halves to even, clamped to 0 ... 255 or, with a relu, relu6 or
    hardtanh, to its bounds; other activations are tables of 256 bytes. All that is done in bytes has the same bits with
    every instruction set, number of threads, size of batch and backend.

    Linear layers, convolutions of one and two axes, max and average pools, sums of residual blocks and activations
    between such work in bytes; softmax, layer norm and whatever else there is stay in float32, conversions around them.
    A last linear layer gives float32 from its exact sums. NaN in x is taken for the smallest number of its range.

    Without calibration data quantization is dynamic: linear layers alone have int8 weights, and each row of their input
    (of a sample of features: the sample) gets its own scale and zero point from its own range as it comes. Everything
    else, convolutions too, stays in float32. Nothing depends on the other samples of a batch.

    model: as for `fnn.compile`; it is left as it is
    calibration_data: an array (N, *input_shape), a pair (x, y), a data set, a loader, or any batches (x or (x, y)), as
        the model takes them, preprocessed; uint8 stands for x / 255. A few hundred samples like those to come are
        enough. Labels y (N,) are used for the report only. None: dynamic.
    input_shape: of one sample; None: that of the calibration data, or of the file of a module of `fnn.onnx.load`
    batch, threads: as for `fnn.compile`
    method: how ranges follow from data: "minmax", all of it; "percentile", all but the (100 - percentile) / 2 % at
        either end; "mse", with the least squared error of the value itself
    exclude: names of modules, such as "features.0" or "fc", that stay in float32, with all inside of them
    max_samples: at most so many calibration samples are used, the first; None: all

    TypeError or ValueError for data of a wrong kind or shape, without a sample, with nan or inf in it; a name in
    `exclude` that no module has; a model in which nothing can be quantized. See also
    https://arxiv.org/abs/1712.05877 (Jacob 2018) and https://arxiv.org/abs/2004.09602 (Wu 2020).
    """
    from fastnn.infer.lower import lowered
    from fastnn.nn import Module

    if not isinstance(model, Module):
        raise TypeError(f"quantize: model is a {type(model).__name__}; expected a module of fastnn.nn")
    if method not in ("minmax", "percentile", "mse"):
        raise ValueError(f"quantize: method is {method!r}; expected 'minmax', 'percentile' or 'mse'")
    percentile = real_number("quantize", "percentile", percentile, above=0, below=math.nextafter(100, 101))
    names = _names(model, exclude)
    most = None if max_samples is None else checked_lengths("quantize", "max_samples", [max_samples])[0]
    samples = None if calibration_data is None else gathered(calibration_data, most)
    if input_shape is None:
        input_shape = getattr(model, "input_shape", None) if samples is None else samples.x.shape[1:]
        if input_shape is None:
            raise ValueError("quantize: input_shape is None; expected the shape of a sample, without calibration_data")
    given = input_shape if isinstance(input_shape, Sequence) else [input_shape]
    shape = checked_lengths("quantize", "input_shape", given)
    if not shape:
        raise ValueError("quantize: a sample has shape (); expected one length or more")
    if samples is not None:
        check_shape(samples.x, shape)
    number = None if batch is None else checked_lengths("quantize", "batch", [batch])[0]
    limit = None if threads is None else checked_lengths("quantize", "threads", [threads])[0]

    source = unfused(lowered(on_host(model), shape, np.dtype(np.float32)))

    def excluded(step: Step) -> bool:
        return any(
            module.partition(" ")[0] == name or module.startswith(f"{name}.")
            for module in step.modules
            for name in names
        )

    if samples is None:
        graph, report = _dynamic(source, excluded)
    else:
        graph, report = _calibrated(source, samples, method, percentile, excluded)
    session = Session(graph, number, limit)
    session.report = report
    return session


def _names(model: Any, exclude: Any) -> list[str]:
    if isinstance(exclude, str) or not isinstance(exclude, Iterable):
        raise TypeError(f"quantize: exclude is {exclude!r}; expected names of modules, in a list")
    names, known = list(exclude), {name for name, _ in model.named_modules()}
    for name in names:
        if not isinstance(name, str) or name not in known or not name:
            raise ValueError(f"quantize: exclude names {name!r}; expected names as of model.named_modules()")
    return names


def _none(source: Graph, kinds: str) -> ValueError:
    ops = ", ".join(dict.fromkeys(step.op for step in source.steps))
    return ValueError(f"quantize: there is nothing to quantize: the model's steps are {ops}; expected {kinds}")


def _dynamic(source: Graph, excluded: Any) -> tuple[Graph, QuantizationReport]:
    graph = dynamic(source, excluded)
    if not any(step.op == "dynamic_linear" for step in graph.steps):
        raise _none(source, "linear layers that are not excluded; convolutions need calibration_data")
    steps = tuple(
        QuantizedStep(_title(step), tuple(step.modules), -math.inf, math.inf, 0.0, 0, math.nan) for step in graph.steps
    )
    return graph, QuantizationReport("dynamic", 0, steps, math.nan, _size(source), _size(graph), None, None)


def _title(step: Step) -> str:
    """What a step does, in a word."""
    return str(step.activation[0] if step.activation else step.options.get("name", step.op))


def _size(graph: Graph) -> int:
    used = {name for step in graph.steps for name in step.constants.values()}
    return sum(graph.constants[name].nbytes for name in used)


def _calibrated(
    source: Graph, samples: Samples, method: str, percentile: float, excluded: Any
) -> tuple[Graph, QuantizationReport]:
    rewriting = Rewriting(source, ranges(source, samples, method, percentile), excluded)
    graph = rewriting.done()
    if not any(step.op in ("quantized_linear", "quantized_conv") for step in graph.steps):
        raise _none(source, "linear layers or convolutions of one or two axes that are not excluded")
    return graph, _measured(source, graph, rewriting, samples, method)


def _measured(source: Graph, graph: Graph, rewriting: Rewriting, samples: Samples, method: str) -> QuantizationReport:
    """Both graphs side by side on the calibration data."""
    plain, quantized, renders = Execution(source), Execution(graph), rewriting.renders
    signal, noise, right = np.zeros(len(graph.steps) + 1), np.zeros(len(graph.steps) + 1), np.zeros(2, int)
    done, labelled = 0, samples.labels is not None and len(source.output_shape) == 1
    for x, labels in samples.parts():
        if done >= _MEASURED and not labelled:
            break
        want, got = plain(x), quantized(x)
        if done < _MEASURED:
            for made, (value, form) in renders.items():
                exact = want[value].astype(np.float64)
                seen = got[made] if form == "floats" else rewriting.affines[value].values()[got[made]]
                seen = np.moveaxis(seen, -1, 1) if form == "last" else seen
                signal[made] += (exact**2).sum()
                noise[made] += ((exact - seen.reshape(exact.shape)) ** 2).sum()
        if labelled:
            right += [int((values[-1].reshape(len(x), -1).argmax(1) == labels).sum()) for values in (want, got)]
        done += len(x)
    rows = []
    for made, step in enumerate(graph.steps, start=1):
        given = rewriting.affines[renders[made][0]] if step.dtype else Affine(0.0, 0)
        low, high = given.values()[[0, -1]] if step.dtype else (-math.inf, math.inf)
        level = sqnr(float(signal[made]), float(noise[made]))
        rows.append(
            QuantizedStep(_title(step), tuple(step.modules), float(low), float(high), given.scale, given.zero, level)
        )
    shares = [float(n) / len(samples.x) for n in right] if labelled else [None, None]
    return QuantizationReport(
        method, len(samples.x), tuple(rows), rows[-1].sqnr, _size(source), _size(graph), shares[0], shares[1]
    )
