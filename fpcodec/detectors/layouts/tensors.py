"""Finding a layout's tensors among a graph's outputs, and cutting them into levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fpcodec.detectors.layouts.base import Layout, Rows, Shapes
from fpcodec.detectors.layouts.levels import HeadLevel, head_levels
from fpcodec.detectors.layouts.maths import Maths
from fpcodec.errors import ModelError

_COARSER = (1, 2, 3)
"""How many levels that the head makes itself a message looks for."""


def shapes_of(outputs: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of a graph's outputs."""
    return {name: tuple(x.shape) for name, x in outputs.items()}


def total(levels: Sequence[HeadLevel], anchors: int = 1) -> int:
    """Rows of all levels together."""
    return sum(level.count for level in levels) * anchors


def named(layout: Layout[Any], roles: Sequence[str], shapes: Shapes) -> dict[str, str] | None:
    """The outputs that the description names for some roles; None where it names none of them.

    Raises:
        ModelError: It names some alone, or one that the graph does not have.
    """
    given = {role: layout.names[role] for role in roles if role in layout.names}
    if not given:
        return None
    absent = [role for role in roles if role not in given]
    if absent:
        raise ModelError(
            f"decode={layout.kind} has an output for {', '.join(given)} but none for "
            f"{', '.join(absent)}; name them all as outputs=role:name,role:name"
        )
    unknown = [name for name in given.values() if name not in shapes]
    if unknown:
        raise ModelError(
            f"server graph has no output {', '.join(unknown)}; it has {', '.join(shapes)}; name "
            "those in the decode outputs"
        )
    return given


def find_one(layout: Layout[Any], shapes: Shapes, axis: int, fits: Any) -> dict[str, str]:
    """The one tensor of a layout that has all in one, as role ``raw``.

    Args:
        layout: Whose.
        shapes: Of the graph's outputs.
        axis: That of its rows.
        fits: Whether a shape without the batch is such a tensor's.

    Raises:
        ModelError: No output fits, or several do.
    """
    found = named(layout, ("raw",), shapes)
    if found is not None:
        return found
    if len(shapes) == 1:
        return {"raw": next(iter(shapes))}
    fitting = [name for name, shape in shapes.items() if len(shape) == 3 and fits(shape[1:])]
    if len(fitting) == 1:
        return {"raw": fitting[0]}
    raise layout.misfit(
        f"one output with {total(layout.levels)} rows on axis {axis}", shapes,
        "name it as outputs=raw:NAME" if fitting else more_levels(layout, shapes),
    )  # fmt: skip


def find_pairs(
    layout: Layout[Any], shapes: Shapes, anchors: int, width: int
) -> dict[str, str] | None:
    """Scores and boxes, of all levels together or level by level; None where there are none.

    Roles are ``scores`` and ``boxes``, or ``scores_p3``, ``boxes_p3`` and so on.

    Args:
        layout: Whose.
        shapes: Of the graph's outputs.
        anchors: Per cell.
        width: Box values per row.

    Raises:
        ModelError: The description names unusable outputs, or shapes do not tell scores from boxes.
    """
    levels = {x.name: x for x in layout.levels}
    each = [f"{kind}_{name}" for name in levels for kind in ("scores", "boxes")]
    given = named(layout, ("scores", "boxes"), shapes) or named(layout, each, shapes)
    if given:
        return given
    rows = total(layout.levels, anchors)
    together = {n: s[2] for n, s in shapes.items() if len(s) == 3 and s[1] == rows}
    if len(together) >= 2:
        return _told_apart(layout, shapes, together, width, "")
    found: dict[str, str] = {}
    for name, level in levels.items():
        fitting = {n: c for n, s in shapes.items() if (c := _channels(s, level, anchors))}
        if len(fitting) < 2:
            return None
        pair = _told_apart(layout, shapes, fitting, width, f"_{name}")
        if pair is None:
            return None
        found |= pair
    return found


def _channels(shape: tuple[int, ...], level: HeadLevel, anchors: int) -> int:
    """Channels per row, where a tensor is one of this level; else 0."""
    if len(shape) == 4 and shape[2:] == (level.height, level.width):
        return shape[1] // anchors if shape[1] % anchors == 0 else 0
    return shape[2] if len(shape) == 3 and shape[1] == level.count * anchors else 0


def _told_apart(
    layout: Layout[Any], shapes: Shapes, fitting: Mapping[str, int], width: int, suffix: str
) -> dict[str, str] | None:
    """Which of some outputs has boxes; None where none can."""
    boxes = [name for name, channels in fitting.items() if channels == width]
    if not boxes:
        return None
    if len(boxes) > 1 or len(fitting) > 2:
        raise layout.misfit(
            f"one output of scores and one of {width} box values per row", shapes,
            f"say which is which: outputs=scores{suffix}:NAME,boxes{suffix}:NAME and so on",
        )  # fmt: skip
    (scores,) = (name for name in fitting if name not in boxes)
    return {f"scores{suffix}": scores, f"boxes{suffix}": boxes[0]}


def read_pairs(
    layout: Layout[Any], names: Mapping[str, str], outputs: Mapping[str, Any],
    sizes: tuple[int, int], maths: Maths,
) -> list[Rows]:  # fmt: skip
    """Cut what ``find_pairs`` found into levels; values are as they stand in the graph.

    Args:
        layout: Whose.
        names: Role to output name.
        outputs: Of the graph.
        sizes: Anchors per cell and box values per row.
        maths: Of the arrays.

    Raises:
        ModelError: A tensor has another shape.
    """
    anchors, width = sizes
    parts = {}
    for kind in ("scores", "boxes"):
        if kind in names:
            parts[kind] = cut_rows(layout, outputs[names[kind]], anchors, names[kind])
            continue
        parts[kind] = [
            _level_rows(layout, outputs[names[f"{kind}_{x.name}"]], x, anchors, maths)
            for x in layout.levels
        ]
    if any(x.shape[2] != width for x in parts["boxes"]):
        raise layout.misfit(f"{width} box values per row", shapes_of(outputs))
    return [Rows(*pair) for pair in zip(parts["scores"], parts["boxes"], strict=True)]


def cut_rows(layout: Layout[Any], x: Any, anchors: int, name: str) -> list[Any]:
    """(N, all rows, C) in levels.

    Raises:
        ModelError: The number of rows is another.
    """
    rows = total(layout.levels, anchors)
    if len(x.shape) != 3 or x.shape[1] != rows:
        wanted = f"{rows} rows" + (f", {anchors} anchors a cell," if anchors > 1 else "")
        raise layout.misfit(
            wanted, {name: tuple(x.shape)}, more_levels(layout, {name: tuple(x.shape)}, anchors)
        )
    found, first = [], 0
    for level in layout.levels:
        found.append(x[:, first : first + level.count * anchors])
        first += level.count * anchors
    return found


def _level_rows(layout: Layout[Any], x: Any, level: HeadLevel, anchors: int, maths: Maths) -> Any:
    """(N, anchors * C, H, W) or (N, rows, C) of one level as (N, rows, C)."""
    shape = tuple(x.shape)
    channels = _channels(shape, level, anchors)
    if not channels:
        raise layout.misfit(
            f"({anchors} x channels, {level.height}, {level.width}) or ({level.count * anchors}, "
            f"channels) on level {level.name}", {level.name: shape},
        )  # fmt: skip
    if len(shape) == 3:
        return x
    split = x.reshape(shape[0], anchors, channels, level.height, level.width)
    return maths.permute(split, (0, 3, 4, 1, 2)).reshape(shape[0], -1, channels)


def more_levels(layout: Layout[Any], shapes: Shapes, anchors: int = 1) -> str:
    """A remedy, where the head makes coarser levels than those of the cut; else nothing."""
    strides = [x.stride for x in layout.levels]
    for extra in _COARSER:
        longer = [*strides, *(strides[-1] << n for n in range(1, extra + 1))]
        rows = total(head_levels(layout.spec, layout.network_size, longer), anchors)
        if any(rows in shape[1:] for shape in shapes.values()):
            return (
                f"the head makes more levels than the cut has: give "
                f"strides={','.join(map(str, longer))}"
            )
    return ""
