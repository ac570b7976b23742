"""The same network ready to train, in fastnn and in PyTorch: a step is forward, loss, backward, optimiser."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from .. import blas
from ..timing import Run
from .problems import LR, MOMENTUM, WEIGHT_DECAY, Network

OURS = "fastnn"
Logits = Callable[[], np.ndarray[Any, Any]]  # of the first batch in evaluation mode, to see that networks are the same
Made = tuple[Run, Logits]


def state_of(network: Network) -> dict[str, Any]:
    """The initial weights that every contender begins with."""
    fnn: Any = importlib.import_module("fastnn")
    fnn.manual_seed(0)
    return {name: value.copy() for name, value in fnn.models.create(network.name).state_dict().items()}


def fastnn(network: Network, state: Mapping[str, Any], threads: int) -> Made:
    """Through the classes that users take."""
    fnn: Any = importlib.import_module("fastnn")
    fnn.set_num_threads(threads)
    blas.limit(threads)
    model = fnn.models.create(network.name)
    model.load_state_dict(state)
    model.needs_input_grad = False
    criterion = fnn.nn.CrossEntropyLoss()
    optimizer = fnn.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    batches = network.batches()
    turn = itertools.cycle(batches)

    def step() -> None:
        x, y = next(turn)
        optimizer.zero_grad()
        criterion(model(x), y)
        model.backward(criterion.backward())
        optimizer.step()

    def logits() -> np.ndarray[Any, Any]:
        model.eval()
        found = np.array(model(batches[0][0]))
        model.train()
        return found

    return step, logits


def pytorch(network: Network, state: Mapping[str, Any], threads: int, form: str = "") -> Made:
    """Eager with the fused optimiser; `form` "channels_last" lays images out so, "compile" compiles the model."""
    from ..rivals.torch_ import networks

    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    assemble: Any = importlib.import_module("fastnn.models").assemble
    model = networks.load(assemble(networks.LAYERS, network.name), state)
    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in network.batches()]
    if form == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        batches = [(x.contiguous(memory_format=torch.channels_last), y) for x, y in batches]
    run = torch.compile(model) if form == "compile" else model
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True, fused=True
    )
    turn = itertools.cycle(batches)

    def step() -> None:
        x, y = next(turn)
        optimizer.zero_grad()
        criterion(run(x), y).backward()
        optimizer.step()

    def logits() -> np.ndarray[Any, Any]:
        model.eval()
        with torch.no_grad():
            found = model(batches[0][0]).numpy().copy()
        model.train()
        return found  # type: ignore[no-any-return]

    return step, logits


def forms(network: Network, compiled: bool) -> dict[str, Callable[[Mapping[str, Any], int], Made]]:
    """Every contender that can run here, by name."""
    found: dict[str, Callable[[Mapping[str, Any], int], Made]] = {OURS: partial(fastnn, network)}
    if importlib.util.find_spec("torch") is None:
        return found
    kinds = ["", *(["channels_last"] if network.images else []), *(["compile"] if compiled else [])]
    for kind in kinds:
        found[f"torch {kind}".strip()] = partial(pytorch, network, form=kind)
    return found
