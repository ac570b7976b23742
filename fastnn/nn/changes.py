"""A count of changes to modules, by which containers see that what they have planned may no longer hold."""

from __future__ import annotations


class _Changes:
    """`count` goes up with every change of an attribute, a hook or the mode of any module, after the change."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


CHANGES = _Changes()
