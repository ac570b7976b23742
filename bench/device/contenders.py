"""Who is measured on a device: fastnn; PyTorch, eager, compiled, and its doors to cuDNN."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ..problems.base import Buffers
from ..rivals import fastnn_
from ..rivals.base import Call, Factory, waiting
from ..timing import Run
from .problems import DROPOUT, DeviceProblem, P, Shaped

OURS = "fastnn"
Maker = Callable[[Buffers], "Run | Call | None"]


class Contender:
    """A library: `run(problem, buffers)` is a call ready to be queued, None where it has no such function."""

    label: str

    def run(self, problem: DeviceProblem, buffers: Buffers) -> Run | None:
        """The call on these arrays, which are CuPy's."""
        raise NotImplementedError

    def context(self) -> contextlib.AbstractContextManager[Any]:
        """Entered around everything that the library does."""
        return contextlib.nullcontext()


class Fastnn(Contender):
    """fastnn, by the public functions."""

    label = OURS

    def __init__(self, fnn: Any) -> None:
        self.fnn, self.factories = fnn, fastnn_.factories(fnn)

    def run(self, problem: DeviceProblem, buffers: Buffers) -> Run | None:
        if problem.op == DROPOUT:
            back = problem.direction == "backward"
            function, x = (self.fnn.dropout_backward, buffers.dy) if back else (self.fnn.dropout, buffers.x)
            return partial(function, x, P, seed=1, out=buffers.out)
        return _as_run(self.factories[problem.function](buffers))


class Torch(Contender):
    """PyTorch on the same memory: eager, in inference mode, its kernels called as directly as for the CPU."""

    label = "torch"

    def __init__(self, torch: Any, factories: Mapping[str, Factory]) -> None:
        self.torch, self.factories = torch, dict(factories)

    def context(self) -> contextlib.AbstractContextManager[Any]:
        return _both(self.torch.inference_mode(), self.torch.device("cuda"), waiting(self.torch.cuda.synchronize))

    def run(self, problem: DeviceProblem, buffers: Buffers) -> Run | None:
        own = self.own(problem)
        factory = self.factories.get(problem.function) if own is None else own
        with self.context():
            return None if factory is None else _as_run(factory(self.viewed(buffers)))

    def own(self, problem: DeviceProblem) -> Maker | None:
        """What differs on a device."""
        if problem.op != DROPOUT:
            return None
        torch = self.torch
        if problem.direction == "forward":
            return lambda b: partial(torch.native_dropout, b.x, P, True)

        def backward(b: Buffers) -> Run:
            mask = torch.native_dropout(b.x, P, True)[1]
            return partial(torch.ops.aten.native_dropout_backward, b.dy, mask, 1 / (1 - P))

        return backward

    def viewed(self, buffers: Buffers) -> Buffers:
        """The arrays as tensors over the same memory."""

        def one(value: Any) -> Any:
            if hasattr(value, "__cuda_array_interface__"):
                return self.torch.from_dlpack(value)
            return [one(each) for each in value] if isinstance(value, list) else value

        extra, values = ({name: one(each) for name, each in part.items()} for part in (buffers.extra, buffers.values))
        return Buffers(extra=extra, **values)


class Compiled(Torch):
    """torch.compile: forward, and the gradient by its own differentiation, each one fused kernel at best."""

    label = "torch.compile"

    def __init__(self, torch: Any) -> None:
        super().__init__(torch, {})
        self.functions = _formulas(torch.nn.functional, torch)

    def context(self) -> contextlib.AbstractContextManager[Any]:
        return _both(self.torch.device("cuda"), waiting(self.torch.cuda.synchronize))

    def own(self, problem: DeviceProblem) -> Maker | None:
        formula = self.functions.get(problem.op.removesuffix("_backward"))
        if formula is None or (isinstance(problem, Shaped) and problem.direction not in ("forward", "backward")):
            return None
        torch = self.torch
        if problem.direction == "forward":
            forward = torch.compile(formula)
            return lambda b: partial(forward, b.x, *b.get("params", ()))

        def gradient(dy: Any, x: Any, *params: float) -> Any:
            return torch.func.vjp(lambda each: formula(each, *params), x)[1](dy)[0]

        back = torch.compile(gradient)
        return lambda b: partial(back, b.dy, b.get("x"), *b.get("params", ())) if b.get("x") is not None else None


class Cudnn(Torch):
    """cuDNN, where PyTorch has a door to it: batch norm and convolutions."""

    label = "cuDNN"

    def __init__(self, torch: Any) -> None:
        super().__init__(torch, {})

    def own(self, problem: DeviceProblem) -> Maker | None:
        torch = self.torch
        if problem.function == "batch_norm_train":
            return lambda b: partial(
                torch.cudnn_batch_norm, b.x, b.gamma, b.beta, b.running_mean, b.running_var, True, 0.1, 1e-5
            )
        if problem.function == "batch_norm_backward":

            def backward(b: Buffers) -> Run:
                _, mean, inv_std, reserve = torch.cudnn_batch_norm(b.x, b.gamma, b.gamma, None, None, True, 0.1, 1e-5)
                kernel = torch.ops.aten.cudnn_batch_norm_backward
                return partial(kernel, b.x, b.dy, b.gamma, None, None, mean, inv_std, 1e-5, reserve)

            return backward
        if problem.function == "conv2d":

            def convolution(b: Buffers) -> Run:
                options = (_pair(b.get("padding", 0)), _pair(b.get("stride", 1)), _pair(b.get("dilation", 1)))
                groups, fixed = b.get("groups", 1), (True, False, True)  # benchmark, not deterministic, TF32 allowed
                return partial(torch.cudnn_convolution, b.x, b.weight, *options, groups, *fixed)

            return convolution
        return None


def load(fnn: Any, names: tuple[str, ...] | None) -> tuple[list[Contender], dict[str, str]]:
    """Those that can run here, and for each of the others the reason why it cannot; None: all."""
    ready: list[Contender] = [Fastnn(fnn)]
    makers: dict[str, Callable[[], Contender]] = {
        "torch": lambda: Torch(_torch(), importlib.import_module("..rivals.torch_", __package__).factories()),
        "torch.compile": lambda: Compiled(_torch()),
        "cuDNN": lambda: Cudnn(_torch(cudnn=True)),
    }
    missing: dict[str, str] = {}
    for name, make in makers.items():
        if names is not None and name not in names:
            continue
        try:
            ready.append(make())
        except Exception as error:  # a rival that is broken must not take the run down with it
            missing[name] = f"cannot run here ({type(error).__name__}: {error})"
    return ready, missing


def _torch(cudnn: bool = False) -> Any:
    torch: Any = importlib.import_module("torch")
    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch has no CUDA")
    if cudnn and not torch.backends.cudnn.is_available():
        raise RuntimeError("this PyTorch has no cuDNN")
    return torch


def _formulas(functional: Any, torch: Any) -> dict[str, Callable[..., Any]]:
    """PyTorch's public functions, by the names of fastnn's."""
    same = (
        "relu", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "softplus", "mish", "hardswish", "hardsigmoid",
        "hardtanh", "relu6", "softsign",
    )  # fmt: skip
    own: dict[str, Callable[..., Any]] = {name: getattr(functional, name) for name in same}
    return own | {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "sin": torch.sin,
        "cos": torch.cos,
        "log_sigmoid": functional.logsigmoid,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "swish": lambda x, beta: x * torch.sigmoid(beta * x),
        "parametric_elu": lambda x, alpha: torch.where(x > 0, x, alpha * torch.expm1(x)),
        "prelu": lambda x, alpha: torch.where(x > 0, x, alpha * x),
        DROPOUT: lambda x: functional.dropout(x, P, True),
        "softmax": lambda x: functional.softmax(x, -1),
        "log_softmax": lambda x: functional.log_softmax(x, -1),
    }


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _as_run(made: Run | Call | None) -> Run | None:
    return made.run if isinstance(made, Call) else made


@contextlib.contextmanager
def _both(*managers: Any) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for manager in managers:
            stack.enter_context(manager)
        yield
