"""What the optimisers share: groups of parameters with their options, state, saving and loading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import parameter_dtype
from fastnn.arrays import beside, host, on_device, place_of
from fastnn.devices import mover
from fastnn.nn.changes import CHANGES
from fastnn.nn.parameter import Parameter

Array = npt.NDArray[Any]
Group = dict[str, Any]
Params = Iterable[Parameter] | Iterable[Group]


class Optimizer:
    """The base of the optimisers: `zero_grad()`, backward passes, `step()`.

    `param_groups` is a list of dicts: "params", a list of parameters, beside the options that hold for them, such as
    "lr". They may be changed between steps, which is what a schedule does. Parameters without a gradient are skipped.
    """

    def __init__(self, params: Params, defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Parameter, dict[str, Any]] = {}
        self._seen = CHANGES.count
        title = type(self).__name__
        if not isinstance(params, Iterable):
            raise TypeError(
                f"{title}: params is of type {type(params).__name__}; "
                "expected parameters, such as model.parameters(), or dicts of them"
            )
        given: list[Any] = list(params)
        if not given:
            raise ValueError(f"{title}: params is empty; expected one parameter or more")
        if not isinstance(given[0], Mapping):
            given = [{"params": given}]
        for group in given:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Learn more parameters: `{"params": [...], "lr": 0.01}`; options left out are those of the optimiser."""
        title = type(self).__name__
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f'{title}: a group of params is {group!r}; expected a dict with "params" in it')
        params = [group["params"]] if isinstance(group["params"], Parameter) else list(group["params"])
        known = {id(parameter) for other in self.param_groups for parameter in other["params"]}
        for k, parameter in enumerate(params):
            if not isinstance(parameter, Parameter):
                raise TypeError(f"{title}: params[{k}] is of type {type(parameter).__name__}; expected a Parameter")
            if id(parameter) in known:
                raise ValueError(f"{title}: params[{k}], of shape {parameter.shape}, is there more than once")
            known.add(id(parameter))
        options = {name: value for name, value in group.items() if name != "params"}
        unknown = [name for name in options if name not in (*self.defaults, "initial_lr")]
        if unknown:
            raise TypeError(f"{title}: a group of params has {unknown[0]!r}; expected {', '.join(self.defaults)}")
        merged = self.defaults | options
        self._check(merged)
        self.param_groups.append(merged | {"params": params})

    def zero_grad(self) -> None:
        """Forget all gradients; their memory is used again."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.zero_grad()

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        if self._seen != CHANGES.count:
            self._follow()
        for group in self.param_groups:
            for parameter in group["params"]:
                grad = parameter.grad
                if grad is not None:
                    state = self.state.get(parameter)
                    if state is None:
                        state = self.state[parameter] = {}
                    self._update(parameter.data, grad, state, group)

    def _follow(self) -> None:
        """Take the state of parameters that are on another device now there."""
        self._seen = CHANGES.count
        for parameter, state in self.state.items():
            place = place_of([parameter.data])
            for name, value in state.items():
                if name != "step" and place_of([value]) != place:
                    state[name] = mover(place)(value)

    def _check(self, options: Group) -> None:
        """Raise TypeError or ValueError for options that are not valid."""
        raise NotImplementedError

    def _update(self, data: Array, grad: Array, state: dict[str, Any], options: Group) -> None:
        """One step of one parameter, in place; `state` is empty at its first."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's structure: {"state": {number: {...}}, "param_groups": [{..., "params": [numbers]}]}.

        The arrays are those of the optimiser, not copies; of those on a device they are copies in main memory.
        """
        number = {parameter: k for k, parameter in enumerate(self._parameters())}
        groups = [
            group | {"params": [number[parameter] for parameter in group["params"]]} for group in self.param_groups
        ]
        return {
            "state": {
                number[parameter]: {name: host(value) if on_device(value) else value for name, value in state.items()}
                for parameter, state in self.state.items()
            },
            "param_groups": groups,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take state and options from what `state_dict` has returned, here or (as CPU tensors) in PyTorch.

        Parameters are matched by their order. Everything is checked before anything is changed; arrays are copied.
        Options that this optimiser does not have, such as PyTorch's "foreach", are left out.
        """
        title = f"{type(self).__name__}.load_state_dict"
        for name in ("state", "param_groups"):
            if name not in state_dict:
                raise ValueError(f'{title}: state_dict has no {name!r}; expected "state" and "param_groups"')
        given, own = state_dict["param_groups"], self.param_groups
        sizes = [len(group["params"]) for group in given], [len(group["params"]) for group in own]
        if sizes[0] != sizes[1]:
            raise ValueError(f"{title}: state_dict has groups of {sizes[0]} parameters; expected {sizes[1]}")
        options: list[Group] = []
        for group in given:
            known = {name: _plain(value) for name, value in group.items() if name in (*self.defaults, "initial_lr")}
            options.append(self.defaults | known)
            self._check(options[-1])
        order = [number for group in given for number in group["params"]]
        parameter_of = dict(zip(map(int, order), self._parameters(), strict=True))
        state: dict[Parameter, dict[str, Any]] = {}
        for number, values in state_dict["state"].items():
            parameter = parameter_of.get(int(number))
            if parameter is None:
                raise ValueError(
                    f"{title}: state_dict has a state of parameter {number}, which is in none of its groups"
                )
            state[parameter] = {
                name: _loaded(f"{title}: {name} of parameter {number}", name, value, parameter)
                for name, value in values.items()
                if value is not None
            }
        for group, new in zip(own, options, strict=True):
            group |= new
        self.state = {parameter: values for parameter, values in state.items() if values}

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def __repr__(self) -> str:
        """The options of each group and its number of parameters."""
        groups = [
            ", ".join([f"{len(group['params'])} parameters", *(f"{k}={v}" for k, v in group.items() if k != "params")])
            for group in self.param_groups
        ]
        return f"{type(self).__name__}({'; '.join(groups)})"


def _plain(value: Any) -> Any:
    """A list, as it comes out of JSON, as the tuple that it was."""
    return tuple(value) if isinstance(value, list) else value


def _loaded(where: str, name: str, value: Any, parameter: Parameter) -> Any:
    """A state's value: the count of steps as an int, everything else as a copied array of the parameter's shape."""
    if name == "step":
        return int(value)
    array = host(value)
    if array.shape != parameter.shape:
        raise ValueError(f"{where} has shape {array.shape}; expected {parameter.shape}")
    copied = np.array(array, parameter_dtype(parameter.dtype), order="C")
    return beside(parameter.data, copied) if on_device(parameter.data) else copied
