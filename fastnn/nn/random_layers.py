"""What layers that draw random numbers share: a seed, a count of calls, and both as state that can be saved.

A mask is a function of the layer's seed and of how many training passes it has made before, of nothing else (see
`fnn.philox`). With these two numbers of every layer a run continues bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsIndex

from fastnn.arguments import checked_word
from fastnn.nn.module import Module
from fastnn.random import new_seed


class RandomLayer(Module):
    """A layer with a 64-bit `seed` of its own, drawn after `fnn.manual_seed`, and the number `calls` of its masks."""

    seed: int
    calls: int

    def __init__(self, *, seed: SupportsIndex | None = None) -> None:
        self.seed = new_seed() if seed is None else checked_word(type(self).__name__, "seed", seed)
        self.calls = 0

    def count_call(self) -> None:
        """A mask has been used: the next pass draws another."""
        vars(self)["calls"] += 1  # no change that containers must know of


def random_layers(module: Module) -> Iterator[tuple[str, Any]]:
    """All modules that have a seed and count their calls, with their names."""
    for name, each in module.named_modules():
        if isinstance(getattr(each, "seed", None), int) and isinstance(getattr(each, "calls", None), int):
            yield name, each


def random_state(module: Module) -> dict[str, tuple[int, int]]:
    """(seed, calls) of every random layer of `module`, by its name: plain numbers, as JSON takes them."""
    return {name: (each.seed, each.calls) for name, each in random_layers(module)}


def set_random_state(module: Module, state: Mapping[str, Sequence[int]]) -> None:
    """Set what `random_state` has returned; ValueError, with nothing changed, if the layers are others."""
    title, layers = "set_random_state", dict(random_layers(module))
    if layers.keys() != state.keys():
        missing, unknown = sorted(layers.keys() - state.keys()), sorted(state.keys() - layers.keys())
        parts = [f"nothing for {', '.join(missing)}"] if missing else []
        parts += [f"{', '.join(unknown)}, which are no random layers of the {type(module).__name__}"] if unknown else []
        raise ValueError(f"{title}: state has {'; and '.join(parts)}")
    values = {}
    for name, pair in state.items():
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise TypeError(f"{title}: state[{name!r}] is {pair!r}; expected two numbers, seed and calls")
        values[name] = checked_word(title, f"seed of {name}", pair[0]), checked_word(title, f"calls of {name}", pair[1])
    for name, (seed, calls) in values.items():
        vars(layers[name]).update(seed=seed, calls=calls)
