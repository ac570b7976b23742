"""Batches of a data set, the next ones prepared while the current one trains."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import checked_word, flag, float_dtype, whole_number
from fastnn.data.dataset import as_dataset
from fastnn.data.moments import scaled
from fastnn.data.preprocess import Pipeline
from fastnn.data.transform import Compose, check_transform

Array = npt.NDArray[Any]
Batch = tuple[Array, Array]


class Loader:
    """Batches `(x, y)` of a data set, in an order and with random transforms that follow from `seed` alone.

        loader = Loader(cifar10(), 128, transforms=[RandomCrop(32, padding=4), RandomHorizontalFlip()])
        for x, y in loader:
            ...

    dataset: an object with arrays `.x` (N, ...), `.y` (N, ...) and a length, or a pair (x, y). batch_size: samples in a
    batch; the last one may have fewer, or, with `drop_last`, is left out. shuffle: a new order every epoch.
    transforms: callables `t(x, rng) -> x` on whole batches, in their order: augmentation, fitted preprocessing.
    prefetch: how many batches a thread prepares ahead; 0 prepares each when it is asked for. dtype: of x, a floating
    one; transforms see float32 where it is narrower. uint8 is divided by 255, batch by batch: the set needs no copy in
    floats.

    The order depends on (seed, epoch), what is random in a batch on (seed, epoch, number of the batch) only: neither on
    `prefetch` nor on where the iteration began. So `batches(epoch, start)` goes on with an epoch to the last bit.

    Memory: batches live in `prefetch + 2` buffers that are used again. A batch is valid until the next but one is asked
    for, or a new iteration begins; copy what must outlive that.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 128,
        *,
        shuffle: bool = True,
        seed: int = 0,
        transforms: Sequence[Callable[..., Any]] = (),
        drop_last: bool = False,
        prefetch: int = 2,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.dataset = as_dataset("Loader", dataset)
        self.batch_size = whole_number("Loader", "batch_size", batch_size)
        self.prefetch = whole_number("Loader", "prefetch", prefetch)
        for name, value, least in (("batch_size", self.batch_size, 1), ("prefetch", self.prefetch, 0)):
            if value < least:
                raise ValueError(f"Loader: {name} is {value}; expected an int of at least {least}")
        self.shuffle = flag("Loader", "shuffle", shuffle)
        self.drop_last = flag("Loader", "drop_last", drop_last)
        self.seed = checked_word("Loader", "seed", seed)
        for transform in transforms:
            check_transform("Loader", transform)
        self.transforms = tuple(transforms)
        self.dtype = np.dtype(dtype)
        if float_dtype(self.dtype) != self.dtype:
            raise TypeError(f"Loader: dtype is {self.dtype}; expected float16, bfloat16, float32 or float64")
        if len(self) == 0:
            rest = " with drop_last" if self.drop_last else ""
            raise ValueError(f"Loader: {len(self.dataset)} samples make no batch of {self.batch_size}{rest}")
        self.epoch = 0
        """The epoch that the next `iter(loader)` goes through."""
        self._first = 0  # the batch that it begins with
        self._now: tuple[int, int] | None = None  # epoch and next batch of an iteration that is going on
        self._steps = tuple(_flat(self.transforms))
        self._work = np.dtype(np.float32) if self.dtype.itemsize < 4 else self.dtype
        self._idle: list[_Buffers] = []

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch."""
        epoch, first = self.epoch, self._first
        self.epoch, self._first = epoch + 1, 0
        return self._counted(epoch, first)

    def _counted(self, epoch: int, first: int) -> Iterator[Batch]:
        try:
            for number, batch in enumerate(self.batches(epoch, first), first + 1):
                self._now = (epoch, number) if number < len(self) else None
                yield batch
        finally:
            self._now = None

    @property
    def state(self) -> dict[str, int]:
        """Where the iteration stands, for a checkpoint: assign it, and the next one goes on with the batch to come.

        Inside of a loop over the loader that is the batch after the current one, however many are prepared.
        """
        epoch, batch = self._now or (self.epoch, self._first)
        return {"epoch": epoch, "batch": batch} | self._identity()

    @state.setter
    def state(self, state: Mapping[str, int]) -> None:
        known = self._identity()
        if set(state) != {"epoch", "batch", *known}:
            raise ValueError(f"Loader: state has {sorted(state)}; expected {sorted({'epoch', 'batch', *known})}")
        for name, value in known.items():
            if int(state[name]) != value:
                raise ValueError(f"Loader: state has {name}={state[name]}; expected {value}, that of this loader")
        self.epoch, self._first = self._position(state["epoch"], state["batch"])
        self._now = None

    def _identity(self) -> dict[str, int]:
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "samples": len(self.dataset),
            "shuffle": int(self.shuffle),
        }

    def _position(self, epoch: int, start: int) -> tuple[int, int]:
        where = checked_word("Loader", "epoch", epoch, 32), checked_word("Loader", "start", start, 32)
        if where[1] > len(self):
            raise ValueError(f"Loader: start is {start}; expected 0 to {len(self)}, the number of batches")
        return where

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `start` on; it does not matter what was iterated before."""
        return self._iterate(*self._position(epoch, start))

    def _iterate(self, epoch: int, start: int) -> Iterator[Batch]:
        try:
            buffers = self._idle.pop()
        except IndexError:  # the first iteration, or another one is going on
            buffers = _Buffers(self.prefetch + 2)
        try:
            order = self._order(epoch)

            def prepare(number: int) -> Batch:
                return self._prepare(epoch, number, order, buffers)

            numbers = range(start, len(self))
            yield from _ahead(prepare, numbers, self.prefetch, epoch) if self.prefetch else map(prepare, numbers)
        finally:
            if not getattr(_thread, "prepares", False):  # else this is the collection of garbage, and they are in use
                self._idle.append(buffers)

    def _order(self, epoch: int) -> npt.NDArray[np.intp]:
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return self._generator(0, epoch).permutation(len(self.dataset))

    def _generator(self, *place: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=place))

    def _prepare(self, epoch: int, number: int, order: npt.NDArray[np.intp], buffers: _Buffers) -> Batch:
        """Gather the samples, convert them, transform them; the last step writes into the batch's own buffer."""
        rows = order[number * self.batch_size : (number + 1) * self.batch_size]
        slot = number % buffers.slots
        rng = self._generator(1, epoch, number)
        place = 0  # of the two buffers between steps, the one that holds x, or does not matter

        def target(last: bool, shape: tuple[int, ...]) -> Array:
            if last and self._work == self.dtype:
                return buffers.get("x", slot, shape, self.dtype)
            return buffers.get("between", place, shape, self._work)

        x = self._gather(rows, buffers, target)
        labels = self.dataset.y
        y = buffers.get("y", slot, (len(rows), *labels.shape[1:]), labels.dtype)
        np.take(labels, rows, axis=0, out=y, mode="clip")
        ours = True  # whether x is in one of the buffers, and not in what a callable has returned
        for left, step in zip(range(len(self._steps) - 1, -1, -1), self._steps, strict=True):
            options: dict[str, Any] = {}
            if hasattr(step, "output_shape"):
                shape = step.output_shape(x.shape)
                if left and ours and getattr(step, "in_place", False) and shape == x.shape:
                    options["out"] = x
                else:
                    place = 1 - place
                    options["out"] = target(left == 0, shape)
            if getattr(step, "labels", False):
                x, y = step(x, y, rng, **options)
            else:
                x = step(x, rng, **options)
            if not isinstance(x, np.ndarray):
                raise TypeError(f"Loader: the transform {step!r} made a {type(x).__name__} of x; expected an array")
            ours = bool(options)
            if not ours and left:
                x = x.astype(self._work, copy=False)
        if len(x) != len(rows) or len(y) != len(rows):
            raise ValueError(f"Loader: of {len(rows)} samples the transforms make {len(x)} of x and {len(y)} of y")
        result = buffers.get("x", slot, x.shape, self.dtype)
        if x is not result:
            result[...] = x
        return result, y

    def _gather(self, rows: Array, buffers: _Buffers, target: Callable[[bool, tuple[int, ...]], Array]) -> Array:
        source = self.dataset.x
        shape = (len(rows), *source.shape[1:])
        x = target(not self._steps, shape)
        if source.dtype == x.dtype:
            return np.take(source, rows, axis=0, out=x, mode="clip")  # "raise" would go through a copy
        raw = buffers.get("raw", 0, shape, source.dtype)
        return scaled(np.take(source, rows, axis=0, out=raw, mode="clip"), x.dtype, x)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the buffers, for pickle and copy."""
        return self.__dict__ | {"_idle": [], "_now": None}

    def __repr__(self) -> str:
        """The data set and how it is cut."""
        return (
            f"Loader({self.dataset!r}, batch_size={self.batch_size}, shuffle={self.shuffle}, seed={self.seed}, "
            f"transforms={list(self.transforms)!r}, drop_last={self.drop_last}, prefetch={self.prefetch}, "
            f"dtype={self.dtype})"
        )


_thread = threading.local()


class _Buffers:
    """Memory by purpose and number: made once, and handed out again, in any shape that it is large enough for."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._held: dict[tuple[str, int], Array] = {}
        self._views: dict[Any, Array] = {}

    def get(self, name: str, number: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        key = name, number, shape, dtype
        found = self._views.get(key)
        if found is not None:
            return found
        size = int(np.prod(shape, dtype=np.int64))
        base = self._held.get((name, number))
        if base is None or base.dtype != dtype or base.size < size:
            for old in [old for old in self._views if old[:2] == (name, number)]:
                del self._views[old]
            base = self._held[name, number] = np.empty(size, dtype)
        view = self._views[key] = base[:size].reshape(shape)
        return view


def _flat(transforms: Sequence[Any]) -> Iterator[Callable[..., Any]]:
    """The transforms one by one, so that each gets memory to write to."""
    for transform in transforms:
        if isinstance(transform, Compose):
            yield from _flat(transform.transforms)
        elif isinstance(transform, Pipeline):
            yield from _flat(transform.steps)
        else:
            yield transform


def _ahead(prepare: Callable[[int], Batch], numbers: range, prefetch: int, epoch: int) -> Iterator[Batch]:
    """The batches of these numbers, prepared in a thread that is up to `prefetch` of them ahead.

    The thread ends with the iteration, also with one that is left early. What goes wrong in it is raised here.
    """
    free = threading.Semaphore(prefetch + 2)  # the one in use and the one before it are not to be overwritten
    ready: queue.SimpleQueue[Batch | BaseException] = queue.SimpleQueue()
    stopped = threading.Event()

    def run() -> None:
        _thread.prepares = True
        for number in numbers:
            free.acquire()
            if stopped.is_set():
                return
            try:
                ready.put(prepare(number))
            except BaseException as error:
                error.add_note(f"(while batch {number} of epoch {epoch} was prepared)")
                ready.put(error)
                return

    # In the caller's context, so that a backend chosen by `with fnn.use(...)` holds there too.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="fastnn-loader", daemon=True)
    thread.start()
    try:
        for number in numbers:
            if number >= numbers.start + 2:
                free.release()
            result = ready.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stopped.set()
        free.release()
        if not getattr(_thread, "prepares", False):
            thread.join()
