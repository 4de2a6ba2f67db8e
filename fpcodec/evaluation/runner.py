"""Measures ways to get detections over a link: bytes, AP, drops with intervals, times, MACs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fpcodec.data.coco import CocoDataset
from fpcodec.detectors.base import Detector
from fpcodec.detectors.onnx import EDGE_PRECISION, LIGHT_EDGE
from fpcodec.errors import InputError
from fpcodec.evaluation.agreement import total_agreement
from fpcodec.evaluation.average_precision import require_coco_eval
from fpcodec.evaluation.cost import way_macs
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.matching import Floats
from fpcodec.evaluation.results import ResultRow
from fpcodec.evaluation.scoring import Bootstrap, Score, score_detections
from fpcodec.evaluation.traces import Trace
from fpcodec.evaluation.ways import FeaturesWay, OpenProfile, Outcome, Scene, Way, Workplace
from fpcodec.executor import Executor, open_executor, run_all
from fpcodec.images import load_image

if TYPE_CHECKING:
    from fpcodec.evaluation.ways import Answer
    from fpcodec.profile import Profile

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all."""

UNSPLIT = "unsplit"


@dataclass(frozen=True)
class Evaluation:
    """The outcome of a run.

    Attributes:
        rows: The unsplit detector first, then one row per way.
        traces: Row name to what happened image by image.
        draws: Row name to the drop of AP per bootstrap draw, the same draws for all.
    """

    rows: tuple[ResultRow, ...]
    traces: Mapping[str, Trace]
    draws: Mapping[str, Floats]


def evaluate(
    profile: Profile,
    dataset: CocoDataset,
    *,
    qualities: Sequence[float],
    levels: Sequence[tuple[str, ...] | None] = (None,),
    rivals: Sequence[Way] = (),
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
        rivals: Other ways, on the same images and detector.
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
    opened = OpenProfile(profile, infer) if infer else OpenProfile.locally(profile, threads)
    ours = [FeaturesWay(quality, chosen) for chosen in levels for quality in qualities]
    return evaluate_ways(
        Workplace(detector, {"fpc": opened}), dataset, (*ours, *rivals), bootstrap=bootstrap,
        progress=progress, environment=Environment.capture(command, threads),
    )  # fmt: skip


def evaluate_ways(
    workplace: Workplace,
    dataset: CocoDataset,
    ways: Sequence[Way],
    *,
    environment: Environment,
    bootstrap: Bootstrap = Bootstrap(),
    progress: Progress | None = None,
) -> Evaluation:
    """Measure any ways against the unsplit detector: one pass over the images, then scoring.

    Args:
        workplace: The detector, and the profiles that ways name.
        dataset: The images and their boxes.
        ways: What to measure; names must differ.
        environment: Kept in the rows.
        bootstrap: Draws and seed of the intervals.
        progress: Called after every image.

    Raises:
        InputError: Two ways have one name, or an image cannot be used.
        MissingDependency: faster-coco-eval is not installed.
    """
    require_scorable(dataset, workplace.detector)
    traces = measure(workplace, dataset, ways, progress)
    return score_traces(
        workplace, dataset, ways, traces, environment=environment, bootstrap=bootstrap
    )


def require_scorable(dataset: CocoDataset, detector: Detector) -> None:
    """Find out before a long run what would spoil the scoring after it.

    Raises:
        InputError: There is no annotated box, or the labels do not fit the categories.
        MissingDependency: faster-coco-eval is not installed.
    """
    require_coco_eval()
    dataset.category_ids(tuple(detector.labels))
    if not dataset.boxes:
        raise InputError(f"{dataset.name}: no annotated box; AP needs some")


def measure(
    workplace: Workplace,
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
    traces = {name: Trace() for name in row_names(ways)}
    for index, path in enumerate(dataset.paths()):
        scene = Scene.of(workplace.detector, load_image(path))
        times = {"extract": scene.extract_ms, "head": scene.head_ms}
        traces[UNSPLIT].add(Outcome(scene.unsplit, 0, {}, times), scene.pyramid)
        for way in ways:
            traces[way.name].add(way.run(scene, workplace), scene.pyramid)
        if progress is not None:
            progress(index + 1, len(dataset))
    return traces


def row_names(ways: Sequence[Way]) -> list[str]:
    """The names of a run's rows, the unsplit detector's first.

    Raises:
        InputError: Two ways have one name.
    """
    names = [UNSPLIT, *(way.name for way in ways)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two settings are the same: {', '.join(twice)}; name each once")
    return names


def score_traces(
    workplace: Workplace,
    dataset: CocoDataset,
    ways: Sequence[Way],
    traces: Mapping[str, Trace],
    *,
    environment: Environment,
    bootstrap: Bootstrap = Bootstrap(),
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Turn traces into rows.

    Args:
        workplace: The detector, and the profiles that ways name.
        dataset: The images and their boxes.
        ways: What was measured.
        traces: Name to trace, the unsplit detector first.
        environment: Kept in the rows.
        bootstrap: Draws and seed of the intervals.
        executor: Scores settings at the same time; None for one after the other.
        progress: Called after every setting.

    Raises:
        InputError: A label index has no category.
        MissingDependency: faster-coco-eval is not installed.
    """
    scores = _score_all(workplace, dataset, traces, bootstrap, executor, progress)
    unsplit, described = traces[UNSPLIT].detections, {way.name: way for way in ways}
    pyramid = workplace.detector.extract(load_image(next(dataset.paths())))
    rows, draws = [], {}
    for name, trace in traces.items():
        way = described.get(name)
        agreed = total_agreement(zip(unsplit, trace.detections, strict=True))
        drop, draws[name] = scores[name].drop_from(scores[UNSPLIT])
        rows.append(
            ResultRow(
                name=name,
                **_described(way, workplace),
                data=dataset.name,
                images=len(dataset),
                seed=bootstrap.seed,
                ap=scores[name].ap,
                drop=drop if way else None,
                macs=way_macs(workplace, pyramid, way),
                agreement_f1=agreed.f1,
                agreement_iou=agreed.mean_iou,
                environment=environment,
                **trace.summary(),
            )
        )
    return Evaluation(tuple(rows), traces, draws)


def _described(way: Way | None, workplace: Workplace) -> dict[str, Any]:
    if way is None:
        return {"kind": UNSPLIT, "family": UNSPLIT, "parameters": {}}
    parameters = dict(way.parameters)
    if "profile" in parameters:
        opened = workplace.profile(parameters["profile"])
        codec = opened.codec
        if opened.other_edge is not None:
            config = opened.profile.detector_config
            if LIGHT_EDGE in config:
                parameters[LIGHT_EDGE] = True
            if EDGE_PRECISION in config:
                parameters[EDGE_PRECISION] = config[EDGE_PRECISION]["precision"]
        parameters |= {"codec_id": codec.codec_id, "stream_id": codec.stream_id.hex()}
    return {"kind": way.kind, "family": way.family, "parameters": parameters}


def _score_all(
    workplace: Workplace,
    dataset: CocoDataset,
    traces: Mapping[str, Trace],
    bootstrap: Bootstrap,
    executor: Executor | None,
    progress: Progress | None,
) -> dict[str, Score]:
    labels = tuple(workplace.detector.labels)
    names = list(traces)
    jobs = ((dataset, traces[name].detections, labels, bootstrap) for name in names)
    scores = {}
    for index, score in run_all(executor or open_executor(1), score_detections, jobs):
        scores[names[index]] = score
        if progress is not None:
            progress(len(scores), len(names))
    return {name: scores[name] for name in names}
