"""Measures ways to get detections over a link: bytes, AP, drops with intervals, times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fpcodec.data.coco import CocoDataset
from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector
from fpcodec.errors import InputError
from fpcodec.evaluation.agreement import total_agreement
from fpcodec.evaluation.average_precision import evaluate_ap, require_coco_eval
from fpcodec.evaluation.bootstrap import Interval, paired_drops
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.matching import match_detections
from fpcodec.evaluation.results import ResultRow, Spread
from fpcodec.evaluation.ways import Answer, FeaturesWay, Outcome, Scene, Way, rival_ways
from fpcodec.images import load_image

if TYPE_CHECKING:
    from fpcodec.profile import Profile

Progress = Callable[[int, int], None]
"""Called with images done and images in all."""

UNSPLIT = "unsplit"


@dataclass
class Trace:
    """What one way did over a data set, image by image.

    Attributes:
        detections: One per image.
        sent_bytes: One per image.
        level_bytes: Level to one value per image that sent it.
        times_ms: Stage to one value per image.
    """

    detections: list[Detections] = field(default_factory=list)
    sent_bytes: list[int] = field(default_factory=list)
    level_bytes: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    times_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, outcome: Outcome) -> None:
        """Append one image's outcome."""
        found = outcome.detections
        # Masks of a whole data set would fill the memory, and no measure here looks at them.
        self.detections.append(Detections(found.boxes, found.scores, found.labels))
        self.sent_bytes.append(outcome.sent_bytes)
        for level, size in outcome.level_bytes.items():
            self.level_bytes[level].append(size)
        for stage, time in outcome.times_ms.items():
            self.times_ms[stage].append(time)

    def summary(self) -> dict[str, Any]:
        """Bytes and times as ``ResultRow`` takes them; nothing sent means no bytes."""
        images = len(self.detections)
        return {
            "sent_bytes": Spread.of(self.sent_bytes) if any(self.sent_bytes) else None,
            "level_bytes": {name: sum(sizes) / images for name, sizes in self.level_bytes.items()},
            "times_ms": {stage: Spread.of(times) for stage, times in self.times_ms.items()},
        }


@dataclass(frozen=True)
class Evaluation:
    """The outcome of a run.

    Attributes:
        rows: The unsplit detector first, then one row per way.
        detections: Row name to one ``Detections`` per image, for later paired comparisons.
    """

    rows: tuple[ResultRow, ...]
    detections: Mapping[str, Sequence[Detections]]


@dataclass(frozen=True)
class Bootstrap:
    """How drops get their intervals: number of draws (at least 200) and seed."""

    draws: int = 1000
    seed: int = 0


def evaluate(
    profile: Profile,
    dataset: CocoDataset,
    *,
    qualities: Sequence[float],
    levels: Sequence[tuple[str, ...] | None] = (None,),
    rivals: Sequence[str] = (),
    infer: Callable[[bytes], Answer] | None = None,
    threads: int | None = None,
    bootstrap: Bootstrap = Bootstrap(),
    command: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a profile at several qualities and sets of levels, rivals beside it.

    Args:
        profile: What edge and server deploy.
        dataset: The images and their boxes; cut it with ``dataset.limit``.
        qualities: Each in [0, 1].
        levels: Sets of levels to send; None for all. Every quality runs with each.
        rivals: ``webp``, ``jpeg:60``, ``boxes`` and so on, on the same images and detector.
        infer: Takes a frame to a server and returns its answer; None for a server half in this
            process.
        threads: For the networks in this process; None for the runtime's default.
        bootstrap: Draws and seed of the intervals.
        command: Kept in the rows.
        progress: Called after every image.

    Raises:
        InputError: A quality, level, rival or image cannot be used.
        MissingDependency: faster-coco-eval is not installed.
        TransportError: ``infer`` got no answer.
    """
    detector = profile.open_detector("both", threads=threads)
    answer = infer if infer is not None else _server_half(profile, threads)
    features = [
        FeaturesWay(profile.codec, answer, quality, chosen)
        for chosen in levels
        for quality in qualities
    ]
    ways = (*features, *rival_ways(detector, rivals))
    return evaluate_ways(
        detector, dataset, ways, bootstrap=bootstrap, progress=progress,
        environment=Environment.capture(command, threads),
    )  # fmt: skip


def evaluate_ways(
    detector: Detector,
    dataset: CocoDataset,
    ways: Sequence[Way],
    *,
    environment: Environment,
    bootstrap: Bootstrap = Bootstrap(),
    progress: Progress | None = None,
) -> Evaluation:
    """Measure any ways against the unsplit detector: one pass over the images, then scoring.

    Args:
        detector: Both halves.
        dataset: The images and their boxes.
        ways: What to measure; names must differ.
        environment: Kept in the rows.
        bootstrap: Draws and seed of the intervals.
        progress: Called after every image.

    Raises:
        InputError: Two ways have one name, or an image cannot be used.
        MissingDependency: faster-coco-eval is not installed.
    """
    labels = tuple(detector.labels)
    # What can be found out now must not cost a long run.
    require_coco_eval()
    dataset.category_ids(labels)
    if not dataset.boxes:
        raise InputError(f"{dataset.name}: no annotated box; AP needs some")
    traces = measure(detector, dataset, ways, progress)
    drops = _drops(dataset, traces, labels, bootstrap)
    unsplit = traces[UNSPLIT].detections
    described = {way.name: (way.kind, way.parameters) for way in ways}
    rows = []
    for name, trace in traces.items():
        kind, parameters = described.get(name, (UNSPLIT, {}))
        agreed = total_agreement(zip(unsplit, trace.detections, strict=True))
        rows.append(
            ResultRow(
                name=name,
                kind=kind,
                parameters=parameters,
                data=dataset.name,
                images=len(dataset),
                seed=bootstrap.seed,
                ap=evaluate_ap(dataset, trace.detections, labels).to_dict(),
                drop=drops.get(name),
                agreement_f1=agreed.f1,
                agreement_iou=agreed.mean_iou,
                environment=environment,
                **trace.summary(),
            )
        )
    return Evaluation(tuple(rows), {name: trace.detections for name, trace in traces.items()})


def measure(
    detector: Detector,
    dataset: CocoDataset,
    ways: Sequence[Way],
    progress: Progress | None = None,
) -> dict[str, Trace]:
    """Run every way on every image; needs no annotated boxes.

    Returns:
        Name to trace, the unsplit detector first.

    Raises:
        InputError: Two ways have one name, or an image cannot be used.
    """
    names = [UNSPLIT, *(way.name for way in ways)]
    if len(set(names)) != len(names):
        raise InputError(f"two settings are the same: {', '.join(names[1:])}; name each once")
    traces = {name: Trace() for name in names}
    for index, scene in enumerate(_scenes(detector, dataset)):
        times = {"extract": scene.extract_ms, "head": scene.head_ms}
        traces[UNSPLIT].add(Outcome(scene.unsplit, 0, {}, times))
        for way in ways:
            traces[way.name].add(way.run(scene))
        if progress is not None:
            progress(index + 1, len(dataset))
    return traces


def _scenes(detector: Detector, dataset: CocoDataset) -> Iterator[Scene]:
    """Images one by one, each extracted and detected once."""
    for path in dataset.paths():
        image = load_image(path)
        start = perf_counter()
        pyramid = detector.extract(image)
        extracted = perf_counter()
        unsplit = detector.detect(pyramid)
        done = perf_counter()
        yield Scene(image, pyramid, unsplit, 1000 * (extracted - start), 1000 * (done - extracted))


def _drops(
    dataset: CocoDataset,
    traces: Mapping[str, Trace],
    labels: Sequence[str],
    bootstrap: Bootstrap,
) -> dict[str, Interval]:
    """Drops of every way against the unsplit detector, on the same draws."""
    matches = {
        name: match_detections(dataset, trace.detections, labels)
        for name, trace in traces.items()
    }  # fmt: skip
    reference = matches.pop(UNSPLIT)
    return paired_drops(reference, matches, draws=bootstrap.draws, seed=bootstrap.seed)


def _server_half(profile: Profile, threads: int | None) -> Callable[[bytes], Answer]:
    from fpcodec.split import ServerHalf

    half = ServerHalf(profile, threads=threads)

    def infer(frame: bytes) -> Answer:
        return half.infer(frame)

    return infer
