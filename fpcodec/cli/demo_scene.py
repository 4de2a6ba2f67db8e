"""One image through the demo: split and unsplit detections, bytes, rivals, the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.drawing import LegendEntry, LegendRow, Panel, class_colour, draw_comparison
from fpcodec.evaluation.agreement import Agreement, agreement, has_counterpart
from fpcodec.evaluation.cost import analysis_macs
from fpcodec.evaluation.rivals.pictures import PictureFormat
from fpcodec.evaluation.ways import BoxesWay, Outcome, PictureWay, Scene, Way, Workplace

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    from fpcodec.profile import Profile
    from fpcodec.split import EdgeHalf, EncodedFrame
    from fpcodec_edge import EdgeClient, InferReply

MIN_SCORE = 0.3
MIN_IOU = 0.5
PICTURE_RIVALS = ("webp", "jpeg")

_SENT, _RECOVERED, _DERIVED, _LOST = (0, 150, 60), (240, 150, 20), (140, 140, 140), (200, 30, 30)


@dataclass(frozen=True)
class SceneResult:
    """What the demo found out about one image.

    Attributes:
        name: File name without ending, or the generated scene's name.
        image: Shape (H, W, 3), uint8, RGB.
        frame: What was sent.
        reply: The server's answer.
        unsplit: Detections of the whole detector in this process, without codec.
        rivals: Name to outcome: pictures in two formats, and the boxes alone.
        edge_macs: Multiply-accumulates of the detector's edge half for the levels sent; None if
            unknown.
        edge_macs_saved: How many fewer that is than for all levels; None if unknown.
        codec_macs: Multiply-accumulates of the codec's analysis of the levels sent.
    """

    name: str
    image: Image
    frame: EncodedFrame
    reply: InferReply
    unsplit: Detections
    rivals: Mapping[str, Outcome]
    edge_macs: int | None
    edge_macs_saved: int | None
    codec_macs: int

    @property
    def overhead_bytes(self) -> int:
        """Bytes of the frame that are in no chunk."""
        return len(self.frame.data) - sum(self.frame.chunk_bytes.values())

    def agreement_of(self, found: Detections) -> Agreement:
        """Agreement of some detections with the whole detector's."""
        return agreement(self.unsplit, found, min_score=MIN_SCORE, min_iou=MIN_IOU)

    @property
    def agreement(self) -> Agreement:
        """Agreement of the split detections with the whole detector's."""
        return self.agreement_of(self.reply.detections)


def run_scene(
    name: str,
    image: Image,
    detector: Detector,
    edge: EdgeHalf,
    client: EdgeClient,
    *,
    quality: float,
    levels: tuple[str, ...] | None,
) -> SceneResult:
    """Send one image's features to the server, and do in this process what the rivals do."""
    frame = edge.encode(image, quality=quality, levels=levels)
    reply = client.infer(frame.data)
    scene, workplace = Scene.of(detector, image), Workplace(detector)
    pictures = [PictureWay(PictureFormat.parse(name)) for name in PICTURE_RIVALS]
    ways: tuple[Way, ...] = (*pictures, BoxesWay())
    outcomes = {way.name: way.run(scene, workplace) for way in ways}
    spent, full = edge.detector.macs(levels), edge.detector.macs()
    saved = None if spent is None or full is None else full - spent
    analysis = analysis_macs(edge.codec, frame.pyramid, levels)
    return SceneResult(name, image, frame, reply, scene.unsplit, outcomes, spent, saved, analysis)


def level_fate(result: SceneResult, profile: Profile, level: str) -> str:
    """What became of a level: ``sent``, ``derived``, ``recovered`` or ``ignored``."""
    if level in result.reply.levels_ignored:
        return "ignored"
    if level in result.reply.levels_used:
        return "sent"
    return "derived" if profile.spec[level].derived_from else "recovered"


def to_dict(result: SceneResult, profile: Profile) -> dict[str, Any]:
    """The JSON-able form of a result."""
    agreed = result.agreement
    times = {**result.frame.timings_ms, **result.reply.timings_ms}
    times["round_trip"] = result.reply.round_trip_ms
    return {
        "name": result.name,
        "image_size": [result.image.shape[1], result.image.shape[0]],
        "network_size": list(result.frame.pyramid.geometry.network_size),
        "frame_bytes": len(result.frame.data),
        "level_bytes": dict(result.frame.chunk_bytes),
        "overhead_bytes": result.overhead_bytes,
        "levels": {name: level_fate(result, profile, name) for name in profile.spec.names},
        "pyramid_fp32_bytes": result.frame.pyramid.raw_bytes,
        "edge_macs": result.edge_macs,
        "edge_macs_saved": result.edge_macs_saved,
        "codec_macs": result.codec_macs,
        "rivals": {
            name: {"bytes": way.sent_bytes, "agreement_f1": result.agreement_of(way.detections).f1}
            for name, way in result.rivals.items()
        },
        "agreement": {
            "f1": agreed.f1, "mean_iou": agreed.mean_iou, "matched": agreed.matched,
            "unsplit": agreed.count_a, "split": agreed.count_b,
        },
        "unsplit_detections": result.unsplit.to_dicts(profile.labels),
        "split_detections": result.reply.detections.to_dicts(profile.labels),
        "timings_ms": {stage: round(ms, 3) for stage, ms in times.items()},
    }  # fmt: skip


def draw_result(result: SceneResult, profile: Profile) -> PillowImage:
    """The whole detector's boxes at the left, the split detector's at the right."""
    split = result.reply.detections
    names = profile.spec.names
    size = len(result.frame.data)
    panels = (
        Panel(
            f"{result.name}: whole detector on one machine",
            result.unsplit,
            has_counterpart(result.unsplit, split, min_score=MIN_SCORE, min_iou=MIN_IOU),
        ),
        Panel(
            f"Split in two: {size:,} bytes went over the link",
            split,
            has_counterpart(split, result.unsplit, min_score=MIN_SCORE, min_iou=MIN_IOU),
        ),
    )
    legend = (
        LegendRow([(None, "Levels:"), *(_level_entry(result, profile, x) for x in names)]),
        LegendRow(_class_entries(result, profile)),
        LegendRow([(None, text) for text in _explanations(result)]),
    )
    return draw_comparison(result.image, panels, profile.labels, legend, MIN_SCORE)


def _confident(found: Detections) -> Detections:
    keep = found.scores >= MIN_SCORE
    return Detections(found.boxes[keep], found.scores[keep], found.labels[keep])


def _level_entry(result: SceneResult, profile: Profile, level: str) -> LegendEntry:
    fate = level_fate(result, profile, level)
    if fate == "sent":
        return _SENT, f"{level} sent: {result.frame.chunk_bytes.get(level, 0):,} bytes"
    if fate == "derived":
        return _DERIVED, f"{level} computed exactly from {profile.spec[level].derived_from}"
    if fate == "ignored":
        return _LOST, f"{level} arrived in vain"
    return _RECOVERED, f"{level} not sent, recovered by the server"


def _class_entries(result: SceneResult, profile: Profile) -> list[LegendEntry]:
    shown = [_confident(x).labels for x in (result.unsplit, result.reply.detections)]
    found = sorted({int(label) for labels in shown for label in labels})
    if not found:
        return [(None, f"No box scores {MIN_SCORE:g} or more on either side.")]
    names = profile.labels
    entries: list[LegendEntry] = [
        (class_colour(label), names[label] if label < len(names) else str(label))
        for label in found
    ]  # fmt: skip
    return [(None, "Classes:"), *entries]


def _explanations(result: SceneResult) -> list[str]:
    agreed = result.agreement
    rivals = ", ".join(
        f"{rival_title(name)} {way.sent_bytes:,}" for name, way in result.rivals.items()
    )
    return [
        f"Agreement: {agreed.matched} in common of {agreed.count_a} boxes at the left and "
        f"{agreed.count_b} at the right (F1 {agreed.f1:.2f}).",
        f"Dashed: no such box on the other side. Below score {MIN_SCORE:g}: not drawn.",
        f"Other ways, in bytes: fp32 pyramid {result.frame.pyramid.raw_bytes:,}, {rivals}.",
    ]


def rival_title(name: str) -> str:
    """A rival's name for people: ``picture as webp q80``, ``boxes alone``."""
    return "boxes alone" if name.startswith("boxes") else f"picture as {name}"
