"""From a detector and a folder of images to a trained profile: everything, in order."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fpcodec.calibration.key_levels import macs_saved, measure_key_levels
from fpcodec.codecs.graphs import LearnedGraphs
from fpcodec.codecs.learned import LearnedCodec
from fpcodec.detectors.factory import ExportableDetector
from fpcodec.errors import InputError
from fpcodec.profile import Profile
from fpcodec.reconstruct.learned import LearnedRecoverer
from fpcodec.training.balance import Price, measure_price
from fpcodec.training.batches import Batches
from fpcodec.training.checkpoint import Checkpoint
from fpcodec.training.distributed import Processes, joined
from fpcodec.training.export import export_profile
from fpcodec.training.heads import Head, open_head
from fpcodec.training.held_out import HeldOut, Measured, network_coder, profile_coder
from fpcodec.training.initial import initial_network
from fpcodec.training.loop import Trainer, half_precision
from fpcodec.training.network import LearnedNetwork
from fpcodec.training.objective import Importance, Objective
from fpcodec.training.prepare import Prepared, prepare, shuffled
from fpcodec.training.settings import RunConfig, TrainingConfig
from fpcodec.training.shortages import disk_full_named, out_of_memory_named
from fpcodec.training.stand_in import fit_stand_ins
from fpcodec.training.trained import trained_network
from fpcodec.training.watch import MeasurementFile, TensorBoard, Watcher, Watchers

TABLE_PYRAMIDS = 300
STAND_IN_PYRAMIDS = 64
FINAL_QUALITIES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Trained:
    """What a run came to.

    Attributes:
        profile: As it lies on disk.
        steps: Steps done, those before a resumption included.
        seconds: Spent on them.
        images: Trained on; mirrored ones count once.
        images_left_out: Did not fit into the cache.
        held_out: Real frames of the profile on the images held out.
    """

    profile: Profile
    steps: int
    seconds: float
    images: int
    images_left_out: int
    held_out: tuple[Measured, ...]


def train(
    detector: ExportableDetector,
    images: Sequence[Path],
    out: Path,
    config: TrainingConfig,
    run: RunConfig,
    *,
    start: Profile | None = None,
    teacher: ExportableDetector | None = None,
    importance: Importance | None = None,
    watcher: Watcher | None = None,
) -> Trained | None:
    """Train a codec for a detector and write its profile; go on where an earlier call was ended.

    Args:
        detector: Both halves.
        images: Unlabelled; thousands are good, a few hundred work.
        out: The profile folder to write.
        config: What decides the weights.
        run: Where the run lies, and how it is watched.
        start: A ``pca`` profile of this detector, or a ``learned`` one to go on from; None to
            calibrate the former.
        teacher: Whose pyramids the server should see, where the detector has a light edge; None
            for the detector's own.
        importance: What the feature loss of ``frs`` and ``frs-features`` is weighted by; None for
            S. What tells the step map where to be fine stays S.
        watcher: Is told of progress.

    Returns:
        What came of it; None in all processes but the first.

    Raises:
        InputError: Too few images, one that cannot be read, a checkpoint of another run, a full
            disk, or not enough memory.
        ModelError: The head cannot be trained through, the loss is not finite, or the exported
            profile is not what was trained.
        MissingDependency: An optional package is not installed.
    """
    if len(images) < config.held_out + config.batch:
        raise InputError(
            f"{len(images)} images are fewer than a batch of {config.batch} and {config.held_out} "
            "held out; add images, or lower --batch or --held-out"
        )
    if importance is not None and config.loss == "mse":
        raise InputError("--loss mse weighs all positions alike; use frs-features or frs with an "
                         "importance of your own")  # fmt: skip
    told = watcher or Watcher()
    with joined(run.device) as processes, out_of_memory_named(config.batch):
        ordered = shuffled(images)
        # The first process makes what the others then find made.
        if processes.first:
            run.folder.mkdir(parents=True, exist_ok=True)
            prepared = prepare(detector, ordered, config, run, start, teacher, told)
        processes.wait()
        if not processes.first:
            prepared = prepare(detector, ordered, config, run, None, teacher, Watcher())
        trainer = _trainer(detector, prepared, config, run, importance, processes, told)
        held_out = _held_out(detector, prepared, config.held_out)
        _run(trainer, held_out)
        finished = _finish(trainer, detector, prepared, held_out, out) if processes.first else None
        processes.wait()
        return finished


def _held_out(detector: ExportableDetector, prepared: Prepared, count: int) -> HeldOut:
    some = range(count)
    wanted = None if prepared.targets is None else prepared.targets.some(some)
    return HeldOut(detector, prepared.cache.some(some), wanted)


def _trainer(
    detector: ExportableDetector,
    prepared: Prepared,
    config: TrainingConfig,
    run: RunConfig,
    importance: Importance | None,
    processes: Processes,
    told: Watcher,
) -> Trainer:
    """Set up a run at its start, or where its last checkpoint was."""
    device, codec = processes.device, prepared.start.codec
    facts = prepared.facts | {
        "processes": processes.count,
        "importance": None if importance is None else importance.name,
    }
    checkpoint = Checkpoint.load(run.folder, facts)
    if isinstance(codec, LearnedCodec):
        network = trained_network(codec)
        config = replace(config, importance_steps=0)  # it knows better than S by now
    else:
        network = _initial(prepared, config, fit=checkpoint is None)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    head: Head | None = None
    if config.loss != "mse":
        head = open_head(detector)
        if device.type != "cpu" and isinstance(head, nn.Module):
            # The detector goes on using its own modules where it is.
            head = copy.deepcopy(head).to(device)
    scale = {name: network.analysis.levels[name].scale for name in network.names}
    objective = Objective(config, head, scale, importance)
    batches = Batches(prepared.cache, config.held_out, config.batch, device, prepared.targets)
    if not processes.first:
        told = Watcher()
    else:
        watchers: list[Watcher] = [told, MeasurementFile(run.folder)]
        told = Watchers([*watchers, TensorBoard(run.folder)] if run.tensorboard else watchers)
    trainer = Trainer(network, objective, batches, Price(0, 0), config, run, facts,
                      processes, told)  # fmt: skip
    if checkpoint is not None:
        trainer.restore(checkpoint)
        told.note(f"going on from step {checkpoint.step} in {run.folder}")
        return trainer
    with half_precision(network):
        stage = partial(told.stage, "Price of a bit")
        trainer.price = measure_price(network, objective, batches, config, stage)
    processes.share(network)
    trainer.price = Price(*map(processes.agree, (trainer.price.slope, trainer.price.offset)))
    trainer.save()
    return trainer


def _initial(prepared: Prepared, config: TrainingConfig, *, fit: bool) -> LearnedNetwork:
    """The closed form as a network; ``fit`` its stand-ins, unless a checkpoint brings them."""
    codec = prepared.start.codec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = initial_network(codec.spec, codec.tensors)
    if fit:
        cache, first = prepared.cache, config.held_out
        some = range(first, min(first + STAND_IN_PYRAMIDS, len(cache)))
        features = (cache.batch([index], torch.device("cpu")) for index in some)
        fit_stand_ins(network.synthesis.stand_in, (network.analysis(x)[0] for x in features))
    return network


def _run(trainer: Trainer, held_out: HeldOut) -> None:
    every = trainer.run.measure_steps
    with half_precision(trainer.network):
        for step in trainer.train():
            if every and step % every == 0 and trainer.processes.first:
                code = network_coder(_averaged(trainer))
                trainer.watcher.measured(step, held_out.measure(code))


def _averaged(trainer: Trainer) -> LearnedNetwork:
    network = copy.deepcopy(trainer.network)
    network.load_state_dict(trainer.average)
    return network.eval()


def _finish(
    trainer: Trainer,
    detector: ExportableDetector,
    prepared: Prepared,
    held_out: HeldOut,
    out: Path,
) -> Trained:
    """Export, then measure what was exported."""
    cache, config = prepared.cache, trainer.config
    trained = range(config.held_out, len(cache))
    some = np.linspace(trained[0], trained[-1], min(TABLE_PYRAMIDS, len(trained)), dtype=int)
    pyramids = cache.some(some.tolist())
    images = len({cache.entries[index].image for index in trained})
    with disk_full_named(out, "the profile"):
        profile = export_profile(
            _averaged(trainer), prepared.start, pyramids, out, seed=config.seed,
            progress=partial(trainer.watcher.stage, "Tables"),
        )  # fmt: skip
        trainer.watcher.stage("Measuring", 0, 1)
        recoverer = LearnedRecoverer(profile.spec, profile.codec.tensors, LearnedGraphs(out))
        key_levels, kept = measure_key_levels(
            detector, recoverer, pyramids, trainer.run.key_level_seconds
        )
        points = tuple(held_out.measure(profile_coder(profile), FINAL_QUALITIES))
        facts = {
            "training": {**config.to_dict(), "steps": trainer.step, "images": images},
            "held_out": [vars(point) for point in points],
            "key_levels": kept,
            "edge_macs_saved_by_scale": macs_saved(detector, key_levels),
        }
        profile = replace(profile, key_levels=key_levels, measured={**profile.measured, **facts})
        profile = profile.save(out)
        trainer.watcher.stage("Measuring", 1, 1)
    return Trained(profile, trainer.step, trainer.seconds, images, cache.images_left_out, points)
