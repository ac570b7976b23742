"""Where the values between steps live: one block of memory, in which what is no longer read gives way to what comes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

from fastnn.infer.graph import Graph
from fastnn.infer.memory import LINE
from fastnn.infer.steps import overwrites, scratch

_Key = tuple[str, int, int]  # "value" and its number, or "scratch", a step and which
_Name = TypeVar("_Name", bound=Hashable)


class Layout(NamedTuple):
    """Bytes of one sample; those of a batch are that many times it."""

    values: dict[int, int]  # by value where it begins
    scratch: dict[int, list[int]]  # by step where its scratch arrays begin
    size: int
    unshared: int  # what `size` would be if nothing gave way


def planned(graph: Graph) -> Layout:
    """Place the values.

    The input and the result are the caller's and have no place here. A step that may write over an input does so if it
    is the last to read it.
    """
    last, steps, unshared = graph.last_uses(), graph.steps, 0
    owner: dict[int, _Key] = {}
    blocks: dict[_Key, tuple[int, int, int]] = {}  # bytes, first and last step
    for place, step in enumerate(steps):
        for number, (shape, kind) in enumerate(scratch(step, graph.dtype)):
            size = _bytes(shape, kind.itemsize)
            blocks["scratch", place, number] = size, place, place
            unshared += size
        if place == len(steps) - 1:
            break
        value, size = place + 1, _bytes(step.shape, graph.made_as(step).itemsize)
        key: _Key = ("value", value, 0)
        over = [owner[each] for each in overwrites(step) if each and last[each] == place]
        over = [each for each in over if blocks[each][0] == size]
        if over:
            key = over[0]
        blocks[key] = size, blocks[key][1] if key in blocks else place, last[value]
        owner[value] = key
        unshared += size
    begins = placed(blocks)
    values = {value: begins[key] for value, key in owner.items()}
    rooms: dict[int, list[int]] = {place: [] for place in range(len(steps))}
    for kind_of, place, number in blocks:
        if kind_of == "scratch":
            rooms[place].append(begins[kind_of, place, number])
    size = max((begin + blocks[key][0] for key, begin in begins.items()), default=0)
    return Layout(values, rooms, size, unshared)


def placed(blocks: Mapping[_Name, tuple[int, int, int]]) -> dict[_Name, int]:
    """Where blocks begin, of which the bytes and the first and last step that need them are given: the largest first,
    each at the lowest place that is free for as long as it is needed.
    """
    begins: dict[_Name, int] = {}
    for key in sorted(blocks, key=lambda key: (-blocks[key][0], blocks[key][1])):
        size, first, end = blocks[key]
        taken = sorted(
            (begin, begin + blocks[other][0])
            for other, begin in begins.items()
            if blocks[other][1] <= end and first <= blocks[other][2]
        )
        begin = 0
        for start, stop in taken:
            if start - begin >= size:
                break
            begin = max(begin, stop)
        begins[key] = begin
    return begins


def _bytes(shape: tuple[int, ...], itemsize: int) -> int:
    return -(-math.prod(shape) * itemsize // LINE) * LINE
