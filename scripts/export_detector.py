"""Export trained ``tiny`` weights to two ONNX graphs, check them, and measure their AP.

    python scripts/export_detector.py runs/tiny --assets fpcodec/assets/tiny --scenes 1000
    python scripts/export_detector.py runs/cells --assets fpcodec/assets/cells \\
        --data runs/cells-data/heldout/annotations.json --images runs/cells-data/heldout/images

The assets folder receives ``edge.onnx``, ``server.onnx``, ``weights.safetensors`` and
``card.json``. AP is what onnxruntime running the two graphs reaches on pictures apart from the
training's: generated scenes, or a data set in COCO's format.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from fpcodec.data import SceneConfig, write_coco
from fpcodec.data.coco import CocoDataset, load_coco
from fpcodec.detections import Detections
from fpcodec.detectors import tiny
from fpcodec.detectors.base import Detector
from fpcodec.detectors.factory import open_detector
from fpcodec.detectors.onnx_graph import edge_macs_table
from fpcodec.detectors.onnx_shapes import load_model
from fpcodec.detectors.torch_export import trace_graph
from fpcodec.evaluation.average_precision import AveragePrecision, evaluate_ap
from fpcodec.files import replacing
from fpcodec.images import load_image

SERVER_OUTPUTS = ("boxes", "scores", "labels", *(f"objectness_{name}" for name in tiny.LEVELS))
SCORES = {"ap": "AP", "ap50": "AP50", "ap75": "AP75",
          "ap_small": "APs", "ap_medium": "APm", "ap_large": "APl"}  # fmt: skip


def export_graphs(
    detector: FasterRCNN, config: tiny.TinyConfig, example: NDArray[np.uint8], folder: Path
) -> None:
    """Write ``edge.onnx`` and ``server.onnx``.

    The head is traced on a picture with detections: without any, whole branches would be missed.
    """
    edge, server = tiny.TinyEdge(detector).eval(), tiny.TinyServer(detector, config.size).eval()
    image = normalised(example, config)
    levels = all_levels(edge, image)
    _export(edge, (image,), folder / "edge.onnx", ("image",), tiny.CODED_LEVELS, {})
    dynamic = {name: {0: "detections"} for name in SERVER_OUTPUTS[:3]}
    _export(server, levels, folder / "server.onnx", tiny.LEVELS, SERVER_OUTPUTS, dynamic)


def _export(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic: dict[str, dict[int, str]],
) -> None:
    # Every size is fixed but the number of boxes, so tracing constants is what is wanted here;
    # `check` compares the graphs with torch on other pictures, one without any detection.
    with replacing(path) as temporary:
        trace_graph(module, inputs, temporary, input_names, output_names, dynamic)


def normalised(image: NDArray[np.uint8], config: tiny.TinyConfig) -> Tensor:
    """Return the network's input, (1, 3, H, W) float32, of an (H, W, 3) uint8 image."""
    pixels = (image.astype(np.float32) - config.mean) / np.array(config.std)
    return torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1)[None].copy())


@torch.no_grad()
def all_levels(edge: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
    """Return p2..p6 of a network input."""
    levels: tuple[Tensor, ...] = edge(image)
    return (*levels, levels[-1][:, :, ::2, ::2].contiguous())


def write_weights(source: Path, target: Path) -> None:
    """Copy weights, those of convolutions and linear layers rounded to half precision.

    The graphs are exported from the rounded weights, so that all files hold the same detector
    and the package stays small.
    """
    weights = {k: v.half() if v.ndim > 1 else v for k, v in load_file(source).items()}
    temporary = target.with_suffix(".tmp")
    save_file(weights, temporary)
    temporary.chmod(0o644)  # safetensors writes for the owner alone
    os.replace(temporary, target)


def check(
    model: FasterRCNN,
    config: tiny.TinyConfig,
    graphs: Detector,
    images: Sequence[NDArray[np.uint8]],
) -> float:
    """Compare the graphs with torch; return the largest difference of matched boxes, relative.

    Raises:
        RuntimeError: boxes or labels differ.
    """
    blank = np.broadcast_to(np.uint8(np.round(config.mean)), (*config.size[::-1], 3)).copy()
    worst = 0.0
    for image in [blank, *images]:
        with torch.no_grad():
            wanted = model([torch.from_numpy(image.copy()).permute(2, 0, 1).float()])[0]
        found = graphs.detect(graphs.extract(image))
        same = found.boxes.shape == tuple(wanted["boxes"].shape)
        if not same or not np.array_equal(found.labels + 1, wanted["labels"].numpy()):
            raise RuntimeError(f"graphs found {len(found)} boxes, torch {len(wanted['boxes'])}")
        if len(found):
            difference = np.abs(found.boxes - wanted["boxes"].numpy()).max() / max(config.size)
            worst = max(worst, float(difference))
    if worst > 1e-4:
        raise RuntimeError(f"boxes differ by {worst:.2e} of the image size, limit 1e-4")
    return worst


def measure_ap(detector: Detector, dataset: CocoDataset) -> dict[str, Any]:
    """Return COCO AP in points: over all classes, and of each."""
    found = [
        detector.detect(detector.extract(load_image(path)))
        for path in track(list(dataset.paths()), "apart from the training's")
    ]
    scores = rounded(evaluate_ap(dataset, found, detector.labels))
    return scores | {"classes": class_ap(dataset, found, detector.labels)}


def class_ap(
    dataset: CocoDataset, found: Sequence[Detections], labels: Sequence[str]
) -> dict[str, float]:
    """Return each category's AP."""
    scores = {}
    for category in dataset.categories:
        boxes = tuple(box for box in dataset.boxes if box.category_id == category.id)
        alone = replace(dataset, categories=(category,), boxes=boxes)
        score = evaluate_ap(alone, found, labels).ap
        if score is not None:
            scores[category.name] = round(score, 2)
    return scores


def rounded(score: AveragePrecision) -> dict[str, Any]:
    """Return the scores that exist, by COCO's names."""
    values = {SCORES[key]: value for key, value in score.to_dict().items() if key in SCORES}
    return {name: round(value, 2) for name, value in values.items() if value is not None}


def count_macs(module: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Return the multiply-accumulates of the convolutions and linear layers of one pass."""
    total = 0

    def add(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features

    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    with torch.no_grad():
        module(*inputs)
    for hook in hooks:
        hook.remove()
    return total


def describe(
    detector: FasterRCNN, config: tiny.TinyConfig, example: NDArray[np.uint8], assets: Path
) -> dict[str, Any]:
    """Return what ``card.json`` says of the network."""
    edge, server = tiny.TinyEdge(detector), tiny.TinyServer(detector, config.size)
    levels = all_levels(edge, normalised(example, config))
    coded = {name: name for name in tiny.CODED_LEVELS}
    return config.to_card() | {
        "strides": dict(zip(tiny.LEVELS, tiny.STRIDES, strict=True)),
        "channels": tiny.CHANNELS,
        "parameters": sum(p.numel() for p in detector.parameters()),
        "macs": {
            "edge": edge_macs_table(load_model(assets / "edge.onnx"), coded),
            "server": count_macs(server, levels),
        },
    }


def write_card(assets: Path, card: dict[str, Any]) -> None:
    """Write ``card.json``, under a temporary name first."""
    temporary = assets / f"{tiny.CARD}.tmp"
    temporary.write_text(json.dumps(card, indent=2) + "\n")
    os.replace(temporary, assets / tiny.CARD)


def export(flags: argparse.Namespace, dataset: CocoDataset) -> None:
    """Export, check and measure on a data set; write the card."""
    run_card = flags.run / tiny.CARD
    config = tiny.TinyConfig.from_card(run_card) if run_card.exists() else tiny.TinyConfig()
    flags.assets.mkdir(parents=True, exist_ok=True)
    write_weights(flags.run / tiny.WEIGHTS, flags.assets / tiny.WEIGHTS)
    model = tiny.load_tiny(flags.assets, config)
    images = [load_image(path) for path in dataset.limit(min(20, len(dataset))).paths()]
    if any(image.shape[:2] != config.size[::-1] for image in images):
        raise SystemExit(f"{dataset.name}: pictures are not {config.size}; resize_coco.py first")
    export_graphs(model, config, images[0], flags.assets)
    card = describe(model, config, images[0], flags.assets)
    if flags.about:
        card["data"] = flags.about
    training = flags.run / "training.json"
    card["training"] = json.loads(training.read_text()) if training.exists() else {}
    write_card(flags.assets, card)
    graphs = open_detector(f"tiny:{flags.assets}", threads=flags.threads)
    print(f"graphs equal torch to {check(model, config, graphs, images):.1e} of the image size")
    card["evaluation"] = {
        "images": len(dataset),
        **({} if flags.data else {"seeds": [0, flags.scenes], "scene_size": SceneConfig().size}),
        "runtime": f"onnxruntime {onnxruntime.__version__}, CPU, float32",
        "command": f"python {shlex.join(sys.argv)}",
        "coco": measure_ap(graphs, dataset),
    }
    print(card["evaluation"])
    write_card(flags.assets, card)


def main() -> None:
    """Read the flags and export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder that train_detector.py wrote")
    parser.add_argument("--assets", type=Path, default=Path("fpcodec/assets/tiny"))
    parser.add_argument("--scenes", type=int, default=1000, help="held-out scenes to measure on")
    parser.add_argument("--data", type=Path, help="a COCO file to measure on instead")
    parser.add_argument("--images", type=Path, help="image folder of --data")
    parser.add_argument("--about", help="for the card: where the training data is from")
    parser.add_argument("--threads", type=int, default=1, help="of torch and onnxruntime")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    if flags.data:
        export(flags, load_coco(flags.data, flags.images))
        return
    with tempfile.TemporaryDirectory() as folder:
        annotations = write_coco(folder, range(flags.scenes))
        export(flags, load_coco(annotations, annotations.parent / "images"))


if __name__ == "__main__":
    main()
