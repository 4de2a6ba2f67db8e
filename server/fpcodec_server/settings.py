"""Kinds of settings: what a value may be, and how it is read from text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

from fpcodec.address import split_address
from fpcodec.errors import InputError

NONE = "none"
"""How a file, a variable or a flag says that a setting has no value."""

HIDDEN = "***"


@dataclass(frozen=True)
class Kind:
    """One kind of setting.

    Attributes:
        expects: What a value must be, as a message says it.
        accepts: Whether a value is of this kind.
        from_text: Reads what a variable or a flag holds; raises ValueError.
        convert: Makes the final value of one that a file may hold.
        optional: Whether there may be no value.
        secret: Whether the value must not be shown.
        is_path: Whether a relative value in a file starts from the file's folder.
    """

    expects: str
    accepts: Callable[[Any], bool]
    from_text: Callable[[str], Any] = str
    convert: Callable[[Any], Any] = lambda value: value
    optional: bool = False
    secret: bool = False
    is_path: bool = False

    def read(self, value: Any, is_text: bool) -> Any:
        """The setting's value.

        Args:
            value: As a file, a variable or a flag holds it.
            is_text: Whether it comes from a variable or a flag, where everything is text.

        Raises:
            InputError: It is of another kind; the message goes after the setting's name.
        """
        if self.optional and value == NONE:
            return None
        try:
            return self.checked(self.from_text(value) if is_text else value)
        except ValueError:
            raise InputError(f"is {self.shown(value)}; use {self.expects}") from None

    def checked(self, value: Any) -> Any:
        """The final form of a value that is not text any more.

        Raises:
            ValueError: It is of another kind.
        """
        if value is None and self.optional:
            return None
        if not self.accepts(value):
            raise ValueError(value)
        return self.convert(value)

    def shown(self, value: Any) -> str:
        """A value for messages."""
        return HIDDEN if self.secret and value is not None else repr(value)


@dataclass(frozen=True)
class Section:
    """Settings that belong together, checked wherever they come from.

    A subclass is a frozen dataclass whose annotations give fields their kinds; it says what
    messages call it: ``class QueueLimits(Section, name="queue")``.

    Raises:
        InputError: A value is not of its field's kind.
    """

    _prefix: ClassVar[str] = ""

    def __init_subclass__(cls, name: str = "") -> None:
        cls._prefix = f"{name}." if name else ""

    def __post_init__(self) -> None:
        for name, kind in self.kinds().items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind.checked(value))
            except ValueError:
                raise InputError(
                    f"{self._prefix}{name} is {kind.shown(value)}; use {kind.expects}"
                ) from None

    @classmethod
    def kinds(cls) -> dict[str, Kind]:
        """The kinds of its settings, by field."""
        found = {}
        for name, hint in get_type_hints(cls, include_extras=True).items():
            for extra in getattr(hint, "__metadata__", ()):
                if isinstance(extra, Kind):
                    found[name] = extra
        return found


def whole(low: int, high: int = 2**63, optional: bool = False) -> Kind:
    """A whole number."""
    limits = f"{low} or more" if high == 2**63 else f"{low} to {high}"
    return Kind(
        f"a whole number of {limits}" + _or_none(optional),
        lambda x: isinstance(x, int) and not isinstance(x, bool) and low <= x <= high,
        lambda text: int(text.replace("_", "")),
        optional=optional,
    )


def number(low: float, above: bool = False, optional: bool = False) -> Kind:
    """A finite number.

    Args:
        low: The least.
        above: Whether it must be more than that.
        optional: Whether there may be none.
    """
    return Kind(
        (f"a number above {low:g}" if above else f"a number of {low:g} or more")
        + _or_none(optional),
        lambda x: (
            isinstance(x, (int, float))
            and not isinstance(x, bool)
            and math.isfinite(x)
            and (x > low or (x == low and not above))
        ),
        float,
        float,
        optional=optional,
    )


def choice(*values: str) -> Kind:
    """One of a few words."""
    return Kind("one of " + ", ".join(values), lambda x: x in values)


def words() -> Kind:
    """A list of names; text separates them by commas."""
    return Kind(
        "a list of names",
        lambda x: isinstance(x, (list, tuple)) and all(isinstance(y, str) and y for y in x),
        lambda text: [x.strip() for x in text.split(",") if x.strip()],
        tuple,
    )


def _switch_of(text: str) -> bool:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]


def _is_address(value: Any) -> bool:
    try:
        split_address(value)
    except (InputError, AttributeError):
        return False
    return True


def _is_file(value: Any) -> bool:
    return isinstance(value, (str, Path)) and Path(value).is_file()


def _or_none(optional: bool) -> str:
    return f", or {NONE}" if optional else ""


SWITCH = Kind("true or false", lambda x: isinstance(x, bool), _switch_of)
ADDRESS = Kind("HOST:PORT, as 127.0.0.1:50051 or [::1]:50051", _is_address)
OPTIONAL_ADDRESS = Kind(f"HOST:PORT, as 127.0.0.1:9464, or {NONE}", _is_address, optional=True)
OPTIONAL_FILE = Kind(
    f"the path of a file that exists, or {NONE}", _is_file, convert=Path, optional=True,
    is_path=True,
)  # fmt: skip
OPTIONAL_SECRET = Kind(
    f"16 or more characters, or {NONE}", lambda x: isinstance(x, str) and len(x) >= 16,
    optional=True, secret=True,
)  # fmt: skip
