"""What ``fpcodec profiles`` says of a profile: as JSON-able data, and as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpcodec.errors import ProfileError

if TYPE_CHECKING:
    from fpcodec.profile import Profile
    from fpcodec.recipes import Recipe

_SHOWN_LABELS, _LISTED_LABELS = 6, 3


def open_named(named: str, *, shipped_first: bool = False) -> tuple[Profile, Recipe | None]:
    """A profile by an embedded one's name or its folder; with the recipe where it is one.

    Args:
        named: The name, or the folder.
        shipped_first: A name of what ships means that, whatever folder is here.

    Raises:
        ProfileError: There is none, or it is damaged.
    """
    from fpcodec.embedded import EMBEDDED, RECIPES, embedded_folder, recipe_folder
    from fpcodec.profile import Profile
    from fpcodec.recipes import RECIPE, Recipe

    folder = Path(named)
    if not folder.exists() or (shipped_first and named in (*EMBEDDED, *RECIPES)):
        if named not in (*EMBEDDED, *RECIPES):
            raise ProfileError(f"{named} is no folder and no profile that ships with fpcodec, "
                               f"which are {', '.join((*EMBEDDED, *RECIPES))}")  # fmt: skip
        folder = recipe_folder(named) if named in RECIPES else embedded_folder(named)
    recipe = Recipe.load(folder) if (folder / RECIPE).is_file() else None
    return Profile.load(folder), recipe


def codec_name(profile: Profile) -> str:
    """The codec family."""
    from fpcodec.codecs.chunks import CODEC_NAMES

    return CODEC_NAMES[profile.codec.codec_id]


def file_bytes(profile: Profile) -> dict[str, int | None]:
    """Bytes of every file that belongs to a profile; None where it is absent."""
    from fpcodec.profile_folder import MANIFEST

    folder = profile.path or Path()
    names = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
    return {x: (folder / x).stat().st_size if (folder / x).is_file() else None for x in names}


def facts_of(named: str) -> dict[str, Any]:
    """Everything a profile says of itself, JSON-able."""
    profile, recipe = open_named(named)
    spec = profile.spec
    return {
        "name": profile.name,
        "folder": str(profile.path),
        "codec": codec_name(profile),
        "codec_id": profile.codec.codec_id,
        "stream_id": profile.stream_id.hex(),
        "levels": list(spec.names),
        "strides": [spec[x].stride for x in spec.names],
        "channels": [spec[x].channels for x in spec.names],
        "derived": {x: spec[x].derived_from for x in spec.names if spec[x].derived_from},
        "labels": list(profile.labels),
        "key_levels": {scale: list(names) for scale, names in profile.key_levels.items()},
        "network_size": (profile.detector_config.get("preprocess") or {}).get("size"),
        "detector_source": profile.detector_config.get("source"),
        "edge_precision": (profile.detector_config.get("edge_precision") or {}).get("precision"),
        "recipe": None if recipe is None else recipe.to_dict(),
        "measured": dict(profile.measured),
        "files": file_bytes(profile),
    }


def facts_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """For people; a line each, so that hashes and addresses can be copied."""
    rows = (*_codec_rows(facts), *_detector_rows(facts), *_measured_rows(facts["measured"]),
            *_file_rows(facts["files"]))  # fmt: skip
    width = max(len(title) for title, _ in rows)
    for title, value in rows:
        yield f"{title:{width}}  {value}"


def _codec_rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "name", facts["name"]
    yield "folder", facts["folder"]
    yield "codec", f"{facts['codec']} (id {facts['codec_id']})"
    yield "stream id", facts["stream_id"]
    for name, stride, channels in zip(
        facts["levels"], facts["strides"], facts["channels"], strict=True
    ):
        source = facts["derived"].get(name)
        derived = f", computed from {source}" if source else ""
        yield f"level {name}", f"stride {stride}, {channels} channels{derived}"
    for scale, names in facts["key_levels"].items():
        yield f"key levels, {scale}", ", ".join(names)


def first_labels(labels: Sequence[str], count: int = _LISTED_LABELS) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(labels) - count} more" if len(labels) > count else ""
    return ", ".join(labels[:count]) + more


def _detector_rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if facts["network_size"]:
        yield "network input", "x".join(map(str, facts["network_size"]))
    if labels := facts["labels"]:
        yield "classes", first_labels(labels, _SHOWN_LABELS)
    if facts["edge_precision"]:
        yield "edge graph", f"{facts['edge_precision']}, in place of the detector's own"
    if facts["detector_source"]:
        yield "detector's file", facts["detector_source"]["file"]
        yield "its sha256", facts["detector_source"]["sha256"]
    if facts["recipe"]:
        model = facts["recipe"]["model"]
        size = f"{model['size_bytes']:,} bytes"
        yield "offered by", f"{model['publisher']} ({model['licence']}), {size}"
        yield "at", model["url"]
        yield "complete it with", f"fpcodec profiles get {facts['name']} --out DIR"


def _measured_rows(measured: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "calibration_images" in measured:
        yield "calibrated on", f"{measured['calibration_images']} images"
    if "found" in measured:
        from fpcodec.calibration.findings import findings_line

        yield "in the first of them", findings_line(measured["found"])
    training = measured.get("training")
    if training:
        yield "trained", (f"{training['steps']} steps on {training['images']} images, "
                          f"loss {training['loss']}")  # fmt: skip
    for wire, size in (measured.get("mean_bytes_by_quality") or {}).items():
        yield f"quality {int(wire) / 255:.2f}", f"{size:,.0f} bytes on images it was fitted to"
    for point in measured.get("held_out") or ():
        yield (
            f"held out, quality {point['quality']:g}",
            (f"{point['frame_bytes']:,.0f} bytes, agreement (F1) {point['agreement']:.3f}"),
        )
    if measured.get("edge_macs"):
        yield "detector's edge half", f"{measured['edge_macs'] / 1e6:,.0f} million MACs"


def _file_rows(files: Mapping[str, int | None]) -> Iterator[tuple[str, str]]:
    for name, size in files.items():
        yield name, "absent" if size is None else f"{size:,} bytes"
