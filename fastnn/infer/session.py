"""The compiled model: `fnn.compile` makes it, calls run it in memory that it has set aside."""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastnn.arguments import float_dtype
from fastnn.arrays import host_only
from fastnn.devices import on_host
from fastnn.dispatch import backend
from fastnn.infer import arena
from fastnn.infer.describe import described
from fastnn.infer.graph import Array, Graph, Shape
from fastnn.infer.memory import block
from fastnn.infer.passes import native_plan
from fastnn.infer.steps import bound, scratch
from fastnn.infer.steps.kind import Site
from fastnn.kernels.cpu import threads as pool
from fastnn.kernels.cpu.linear import Program
from fastnn.threads import INT_MAX

if TYPE_CHECKING:
    from fastnn.infer.quantization.report import QuantizationReport
    from fastnn.nn import Module

_KEPT = 16  # sizes of batches for which the arguments of all kernels are kept


class _Outside:
    """In place of an array that comes with a call: the input or the result, in a shape."""

    __slots__ = ("result", "shape")

    def __init__(self, result: bool, shape: Shape) -> None:
        self.result, self.shape = result, shape


def _place(array: Any) -> Any:
    """For a program: an array, or which of those of a call."""
    return array.result if isinstance(array, _Outside) else array


class _Bound:
    """All kernels with their arguments, for one size of batch and backend.

    Those that can run one after the other without Python are one call, or the whole.
    """

    __slots__ = ("calls", "places", "run")

    def __init__(
        self, calls: list[tuple[Callable[..., Any], list[Any]]], batch: int, whole: tuple[Shape, Shape]
    ) -> None:
        outside = [_Outside(result, (batch, *shape)) for result, shape in zip((False, True), whole, strict=True)]
        self.calls: list[tuple[Callable[..., Any], list[Any]]] = []
        for compiled, group in itertools.groupby(calls, lambda call: hasattr(call[0], "operation")):
            if compiled:
                program = Program((kernel, [_place(array) for array in arrays]) for kernel, arrays in group)
                self.calls.append((program.run, list(outside)))
            else:
                self.calls += group
        self.run = self.calls[0][0] if calls and self.calls[0][1] == outside and len(self.calls) == 1 else self.each
        self.places: list[tuple[list[Any], int, bool, Shape | None]] = []
        for _, arguments in self.calls:
            for k, argument in enumerate(arguments):
                if isinstance(argument, _Outside):
                    same = argument.shape == (batch, *whole[argument.result])
                    self.places.append((arguments, k, argument.result, None if same else argument.shape))
        self.empty()

    def each(self, x: Array, out: Array) -> None:
        for arguments, k, result, shape in self.places:
            array = out if result else x
            arguments[k] = array if shape is None else array.reshape(shape)
        try:
            for kernel, arguments in self.calls:
                kernel(*arguments)
        finally:
            self.empty()

    def empty(self) -> None:
        """Keep nothing of the caller's alive."""
        for arguments, k, _, _ in self.places:
            arguments[k] = None


class Session:
    """A compiled model: `y = session(x)`, or `session.run(x, out=y)`, which allocates nothing.

    x (N, *input_shape) and y (N, *output_shape) are of `dtype`; N is `batch`, or any number if that is None. Values
    between steps live in one block of memory, the arena, which grows to the largest batch seen. A call writes nothing
    else, reads x where it lies if it is contiguous, and computes each sample by itself: y[i] follows from x[i] (and i,
    for the regions of fractional pooling), whatever the batch, the threads and the calls before. Only in half precision
    large products, of more than 64 samples, go to the BLAS, which has last bits of its own.

    A session is a snapshot: training goes on without it. Threads that call one session wait for each other; give each
    a `clone()`, which shares the weights. It can be pickled, and `save(path)` writes it for `fnn.load(path)`.
    `report` is that of `fnn.quantize`, where the session comes from there; files do not keep it.
    """

    def __init__(
        self, graph: Graph, batch: int | None = None, threads: int | None = None, plan: Graph | None = None
    ) -> None:
        self._graph, self.batch, self.threads = graph, batch, threads
        self.report: QuantizationReport | None = None
        self._packed: dict[str, Array] = {}  # weights in the order in which kernels read them; clones share it
        self._prepare(plan)

    def _prepare(self, plan: Graph | None = None) -> None:
        graph = self._graph
        self.dtype, self.input_shape, self.output_shape = graph.dtype, graph.input_shape, graph.output_shape
        self._plan = native_plan(graph) if plan is None else plan
        self._layout = arena.planned(self._plan)
        self._arena = block(self._layout.size * (self.batch or 0))
        self._bound: dict[tuple[int, str], _Bound] = {}
        self._lock = threading.Lock()

    def __call__(self, x: Array) -> Array:
        """The result for x, in a new array."""
        return self.run(x)

    def run(self, x: Array, *, out: Array | None = None) -> Array:
        """The result for x, in `out` if that is given: contiguous, of the result's shape and dtype, apart from x.

        TypeError for another type or dtype, ValueError for another shape.
        """
        batch = Program.samples(x, out, self.dtype.num, self.input_shape, self.output_shape)
        if batch < 0 or (self.batch is not None and batch != self.batch):
            x = self._checked(x, out)
            batch = len(x)
        if out is None:
            out = np.empty((batch, *self.output_shape), self.dtype)
        if batch == 0:
            return out
        with self._lock:
            plan = self._bound.get((batch, backend()))
            if plan is None:
                plan = self._bind(batch)
            if self.threads is None or pool.get_num_threads() <= self.threads:
                plan.run(x, out)
            else:
                with _THREADS.at_most(self.threads):
                    plan.run(x, out)
        return out

    def _checked(self, x: Any, out: Any) -> Array:
        """x, or a copy of it that kernels take; an error that says what is wrong with it, or with out."""
        if not isinstance(x, np.ndarray):
            host_only("session", x=x)
            raise TypeError(f"session: x is of type {type(x).__name__}; expected a NumPy array")
        if x.dtype != self.dtype:
            raise TypeError(f"session: x has dtype {x.dtype}; expected {self.dtype}: x.astype({self.dtype.name!r})")
        if x.ndim == 0 or x.shape[1:] != self.input_shape:
            raise ValueError(f"session: x has shape {x.shape}; expected {('N', *self.input_shape)}".replace("'N'", "N"))
        if self.batch is not None and len(x) != self.batch:
            raise ValueError(f"session: x has {len(x)} samples; expected {self.batch}, as the session was compiled for")
        plain: Array = np.require(x, self.dtype, ["C", "A"]).view(np.ndarray)
        if out is not None:
            self._check_out(out, len(plain), plain)
        return plain

    def _check_out(self, out: Any, batch: int, x: Array) -> None:
        shape = (batch, *self.output_shape)
        if not isinstance(out, np.ndarray):
            raise TypeError(f"session: out is of type {type(out).__name__}; expected a NumPy array")
        if out.dtype is not self.dtype and (out.dtype != self.dtype or not out.dtype.isnative):
            raise TypeError(f"session: out has dtype {out.dtype}; expected {self.dtype}")
        if out.shape != shape or not out.flags.carray:
            state = "" if out.shape != shape else ", not contiguous, aligned and writeable"
            raise ValueError(f"session: out has shape {out.shape}{state}; expected {shape}, contiguous")
        if out is x or ((x.base is not None or out.base is not None) and np.may_share_memory(x, out)):
            raise ValueError("session: out shares memory with x; expected an array of its own")

    def _bind(self, batch: int) -> _Bound:
        """All kernels with their arguments: views of the arena, weights, numbers."""
        graph, layout = self._plan, self._layout
        if backend() != "native" and graph is not self._graph:
            graph = self._graph
            layout = arena.planned(graph)
        size = layout.size * batch
        if size > self._arena.size or len(self._bound) >= _KEPT:
            self._bound.clear()
        if size > self._arena.size:
            self._arena = block(size)

        def view(begin: int, shape: Shape, dtype: np.dtype[Any]) -> Array:
            size = math.prod(shape) * dtype.itemsize
            return self._arena[begin * batch : begin * batch + size].view(dtype).reshape(shape)

        def at(value: int, shape: Shape) -> Any:
            if value in layout.values:
                return view(layout.values[value], shape, graph.made_as(graph.steps[value - 1]))
            return _Outside(value > 0, shape)

        calls = []
        for place, step in enumerate(graph.steps):
            needs = zip(layout.scratch[place], scratch(step, graph.dtype), strict=True)
            rooms = [view(begin, (batch, *shape), kind) for begin, (shape, kind) in needs]
            calls += bound(Site(step, place, graph.of(step), graph.dtype, batch, at, self._packed, rooms))
        made = _Bound(calls, batch, (self.input_shape, self.output_shape))
        self._bound[batch, backend()] = made
        return made

    def clone(self) -> Session:
        """A session with the same weights, not copied, and memory of its own: one for each thread."""
        other = Session(self._graph, self.batch, self.threads, self._plan)
        other._packed, other.report = self._packed, self.report
        return other

    def describe(self) -> str:
        """The plan as a table: steps, the modules in them, shapes, operations, bytes; then what it takes in all."""
        return described(self)

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena, as large as it is now."""
        return self._arena.size

    @property
    def weight_bytes(self) -> int:
        """Bytes of all constants, those included that the plan and calls have put in another order."""
        return sum(array.nbytes for kept in (self._plan.constants, self._packed) for array in list(kept.values()))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the session to one file, safetensors with the plan in its metadata, for `fnn.load`.

        At any moment, kill -9 included, the old file or the new one is there, whole.
        """
        from fastnn.infer.files import save

        save(self, path)

    def export_c(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        header: str | os.PathLike[str] | None = None,
        notes: str = "",
    ) -> None:
        """Write the session as one C99 file, weights included, that needs no library but C's own and allocates nothing.

        It defines `NAME_run(x, y, workspace)`, for a batch of the session's size or, where that is free, one sample,
        and `NAME_sizes(sizes)`; a comment at its top says the rest. Results are the session's, bit for bit, but for the
        last bits of steps which that comment names: convolutions that have no blocked form (of fewer than four results,
        of groups that end within 16 channels, in float64), and some operators of ONNX over plain arrays.

        name: of the functions, a name in C; None: made of the file's
        header: a file with the declarations, for programs that call them
        notes: for that comment, what a reader should know: what x is, and y
        """
        from fastnn.infer.c import export_c

        export_c(self, path, name=name, header=header, notes=notes)

    def __repr__(self) -> str:
        size = "N" if self.batch is None else self.batch
        shapes = [str((size, *shape)).replace("'", "") for shape in (self.input_shape, self.output_shape)]
        return f"<fastnn session {' -> '.join(shapes)}, {self.dtype}, {len(self._graph.steps)} steps>"

    def __getstate__(self) -> dict[str, Any]:
        """Without memory, lock and what can be made again."""
        return {name: getattr(self, name) for name in ("_graph", "batch", "threads", "report")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _packed={})
        self._prepare()


def compile(
    model: Module,
    input_shape: SupportsIndex | Sequence[SupportsIndex] | None = None,
    batch: SupportsIndex | None = None,
    dtype: npt.DTypeLike | None = None,
    threads: SupportsIndex | None = None,
) -> Session:
    """Compile a model for inference: what it computes in evaluation mode, with everything known worked out before.

    Dropout and its kin are gone, batch norm is folded into the linear layer or convolution before it (in float64,
    rounded once), activations are applied in the pass that makes their input, weights are copied, memory is planned.
    Results are those of the model's evaluation mode within rounding.

    model: layers of `fastnn.nn` in Sequential and Residual; its mode does not matter and it is left as it is. A layer
        of one's own is a TypeError that names it, since a session runs no Python between its kernels; so is, as a
        ValueError, what mixes the samples of a batch. Hooks are not part of a session. Sessions run on the CPU: of a
        model on a device they take a copy of the weights. A module of `fnn.onnx.load` may be of any nodes that treat
        samples one by one.
    input_shape: of one sample, without the batch; None for a module of `fnn.onnx.load` whose file says it
    batch: the number of samples in every call; None: any, from call to call
    dtype: of input, result and weights; None: that of the model's weights
    threads: at most so many in a call (of fastnn's kernels, not of the BLAS); None: `fnn.get_num_threads()`. The number
        is the process's for the length of the call; results do not depend on it.
    """
    from fastnn.infer.lower import lowered
    from fastnn.nn import Module

    if not isinstance(model, Module):
        raise TypeError(
            f"compile: model is a {type(model).__name__}; expected a module of fastnn.nn, or what fnn.onnx.load gives"
        )
    if input_shape is None and (input_shape := getattr(model, "input_shape", None)) is None:
        raise TypeError("compile: input_shape is None; expected the shape of one sample, such as (3, 32, 32)")
    shape = checked_lengths(
        "compile", "input_shape", input_shape if isinstance(input_shape, Sequence) else [input_shape]
    )
    if not shape:
        raise ValueError("compile: input_shape is (); expected one length or more, without the batch")
    number = None if batch is None else checked_lengths("compile", "batch", [batch])[0]
    most = None if threads is None else checked_lengths("compile", "threads", [threads])[0]
    kind = _dtype_of(model) if dtype is None else np.dtype(dtype)
    if kind.kind in "biu" or float_dtype(kind) is None or not kind.isnative:
        raise TypeError(f"compile: dtype is {kind}; expected float32, float64, float16 or bfloat16")
    return Session(lowered(on_host(model), shape, kind), number, most)


def checked_lengths(title: str, name: str, given: Any) -> Shape:
    """Whole numbers from 1 on."""
    try:
        lengths = tuple(operator.index(each) for each in given)
    except TypeError:
        raise TypeError(f"{title}: {name} is {given!r}; expected whole numbers") from None
    if any(not 1 <= length <= INT_MAX for length in lengths):
        raise ValueError(f"{title}: {name} is {given!r}; expected numbers from 1 to {INT_MAX}")
    return lengths


def _dtype_of(model: Any) -> np.dtype[Any]:
    """What the model's weights are made of, those that are float32 beside half precision apart."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and name not in module.wide_parameters:
                first: np.dtype[Any] = parameter.dtype
                return first
    kind: np.dtype[Any] = np.result_type(np.float32, *(parameter.dtype for parameter in model.parameters()))
    return kind


class _Threads:
    """The number of threads of the process while sessions with a limit run: put back after the last of them."""

    def __init__(self) -> None:
        self._lock, self._running, self._before = threading.Lock(), 0, 1

    @contextlib.contextmanager
    def at_most(self, number: int) -> Iterator[None]:
        with self._lock:
            if self._running == 0:
                self._before = pool.get_num_threads()
            self._running += 1
            pool.set_num_threads(min(number, self._before))
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    pool.set_num_threads(self._before)


_THREADS = _Threads()
