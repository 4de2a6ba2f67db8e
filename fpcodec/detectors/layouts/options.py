"""Options of an output layout, read from a SPEC's text or from a profile's JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from fpcodec.errors import InputError

ACTIVATIONS = ("none", "sigmoid")

Read = TypeVar("Read", bound="LayoutOptions")


@dataclass(frozen=True)
class LayoutOptions:
    """What every layout can be told.

    Attributes:
        strides: Strides of the head's levels in pixels, finest first; none for those of the cut.
            For heads that make coarser levels themselves, as RetinaNet's p6 and p7.
        activation: What scores still need: ``none`` or ``sigmoid``.
        multi_label: One candidate per class above the threshold, not per row its best class.
        pre_nms: Most candidates of a level that suppression looks at; 0 for all.
        clip: Clip boxes to the network's input before suppression, not after it alone.
    """

    strides: tuple[int, ...] = ()
    activation: str = "none"
    multi_label: bool = False
    pre_nms: int = 0
    clip: bool = False

    def __post_init__(self) -> None:
        if list(self.strides) != sorted(set(self.strides)) or any(x < 1 for x in self.strides):
            raise InputError(f"decode strides {self.strides} are not whole and rising")
        if self.activation not in ACTIVATIONS:
            raise InputError(
                f"decode activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}"
            )
        if self.pre_nms < 0:
            raise InputError(f"decode pre_nms {self.pre_nms} is negative; give 0 for no limit")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Keys that ``read`` knows."""
        return tuple(item.name for item in fields(cls))

    @classmethod
    def read(cls: type[Read], data: Mapping[str, Any]) -> Read:
        """Read options; values are text as in a SPEC, or data as in JSON.

        Raises:
            InputError: A key is unknown, or a value cannot be used.
        """
        unknown = [key for key in data if key not in cls.names()]
        if unknown:
            raise InputError(
                f"decode has no option {', '.join(unknown)} here; it has {', '.join(cls.names())}"
            )
        kinds = {item.name: str(item.type) for item in fields(cls)}
        return cls(**{key: _value(key, kinds[key], value) for key, value in data.items()})

    @classmethod
    def plain(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """The options given, JSON-able, values of their types; defaults are left out.

        Raises:
            InputError: A key is unknown, or a value cannot be used.
        """
        read = cls.read(data)
        values = {key: getattr(read, key) for key in data}
        return {k: list(x) if isinstance(x, tuple) else x for k, x in values.items()}


def _value(key: str, kind: str, value: Any) -> Any:
    try:
        return _READERS[kind](value)
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"decode option {key}={value} is not {_WANTED[kind]}") from error


def _truth(value: Any) -> bool:
    named = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    found = value if isinstance(value, bool) else named.get(str(value).lower())
    if found is None:
        raise ValueError(value)
    return found


def _whole(value: Any) -> int:
    if int(value) != float(value):
        raise ValueError(value)
    return int(value)


def _several(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def of(value: Any) -> tuple[Any, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(read(part) for part in parts)

    return of


_READERS: dict[str, Callable[[Any], Any]] = {
    "int": _whole,
    "float": float,
    "str": str,
    "bool": _truth,
    "tuple[int, ...]": _several(_whole),
    "tuple[float, ...]": _several(float),
}
_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "tuple[int, ...]": "whole numbers joined by commas",
    "tuple[float, ...]": "numbers joined by commas",
}
