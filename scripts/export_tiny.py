"""Export trained ``tiny`` weights to two ONNX graphs, check them, and measure their AP.

    python scripts/export_tiny.py runs/tiny --assets fpcodec/assets/tiny --scenes 1000

The assets folder receives ``edge.onnx``, ``server.onnx``, ``weights.safetensors`` and
``card.json``. AP is what onnxruntime running the two graphs reaches on held-out scenes.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from fpcodec.data import CLASS_NAMES, SceneConfig, generate_scene
from fpcodec.detectors import tiny
from fpcodec.detectors.onnx_graph import edge_macs_table
from fpcodec.detectors.onnx_shapes import load_model

Arrays = Sequence[NDArray[np.float32]]
OPSET = 17
SERVER_OUTPUTS = ("boxes", "scores", "labels", *(f"objectness_{name}" for name in tiny.LEVELS))


def export_graphs(detector: FasterRCNN, folder: Path) -> None:
    """Write ``edge.onnx`` and ``server.onnx``."""
    image = torch.zeros(1, 3, tiny.INPUT_SIZE, tiny.INPUT_SIZE)
    edge, server = tiny.TinyEdge(detector).eval(), tiny.TinyServer(detector).eval()
    # The head is traced on a picture with detections: without any, whole branches would be missed.
    with torch.no_grad():
        levels = edge(normalised(generate_scene(0).image))
    levels = (*levels, levels[-1][:, :, ::2, ::2].contiguous())
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
    temporary = path.with_suffix(".onnx.tmp")
    with warnings.catch_warnings():
        # Every size is fixed but the number of boxes, so tracing constants is what is wanted here;
        # `check` compares the graphs with torch on other pictures, one without any detection.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            module,
            inputs,
            str(temporary),
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,
        )
    os.replace(temporary, path)


def normalised(image: NDArray[np.uint8]) -> Tensor:
    """Return the network's input, (1, 3, H, W) float32, of an (H, W, 3) uint8 image."""
    pixels = (image.astype(np.float32) - tiny.IMAGE_MEAN) / np.array(tiny.IMAGE_STD)
    return torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1)[None].copy())


def write_weights(source: Path, target: Path) -> None:
    """Copy weights, those of convolutions and linear layers rounded to half precision.

    The graphs are exported from the rounded weights, so that all files hold the same detector
    and the package stays small.
    """
    weights = {k: v.half() if v.ndim > 1 else v for k, v in load_file(source).items()}
    temporary = target.with_suffix(".tmp")
    save_file(weights, temporary)
    os.replace(temporary, target)


def open_graphs(folder: Path, threads: int) -> Callable[[NDArray[np.uint8]], Arrays]:
    """Return a function that runs edge and server by onnxruntime on one image."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    edge, server = (
        onnxruntime.InferenceSession(folder / f"{half}.onnx", options, ["CPUExecutionProvider"])
        for half in ("edge", "server")
    )

    def detect(image: NDArray[np.uint8]) -> Arrays:
        levels = edge.run(list(tiny.CODED_LEVELS), {"image": normalised(image).numpy()})
        levels.append(np.ascontiguousarray(levels[-1][:, :, ::2, ::2]))
        outputs: Arrays = server.run(
            list(SERVER_OUTPUTS), dict(zip(tiny.LEVELS, levels, strict=True))
        )
        return outputs

    return detect


def check(detector: FasterRCNN, detect: Callable[[NDArray[np.uint8]], Arrays], count: int) -> float:
    """Compare the graphs with torch; return the largest difference of matched boxes, relative.

    Raises:
        RuntimeError: boxes or labels differ.
    """
    blank = np.full((tiny.INPUT_SIZE, tiny.INPUT_SIZE, 3), 112, dtype=np.uint8)
    worst = 0.0
    for image in [blank, *(generate_scene(seed).image for seed in range(count))]:
        with torch.no_grad():
            pixels = torch.from_numpy(image).permute(2, 0, 1).float()
            wanted = detector([pixels])[0]
        boxes, _, labels, *_ = detect(image)
        same = boxes.shape == tuple(wanted["boxes"].shape)
        if not same or not np.array_equal(labels + 1, wanted["labels"].numpy()):
            raise RuntimeError(f"graphs found {len(boxes)} boxes, torch {len(wanted['boxes'])}")
        if len(boxes):
            difference = np.abs(boxes - wanted["boxes"].numpy()).max() / tiny.INPUT_SIZE
            worst = max(worst, float(difference))
    if worst > 1e-4:
        raise RuntimeError(f"boxes differ by {worst:.2e} of the image size, limit 1e-4")
    return worst


def measure_ap(detect: Callable[[NDArray[np.uint8]], Arrays], seeds: range) -> dict[str, float]:
    """Return COCO AP in points on generated scenes."""
    from faster_coco_eval import COCO, COCOeval_faster

    truths: list[dict[str, object]] = []
    found: list[dict[str, object]] = []
    for seed in track(seeds, "held-out scenes"):
        scene = generate_scene(seed)
        for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
            truths.append(_row(seed, box, label) | {"id": len(truths) + 1, "iscrowd": 0})
        boxes, scores, labels, *_ = detect(scene.image)
        for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
            found.append(_row(seed, box, label) | {"score": score})
    truth = COCO()
    truth.dataset = {
        "images": [{"id": seed} for seed in seeds],
        "annotations": truths,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASS_NAMES)],
    }
    truth.createIndex()
    evaluation = COCOeval_faster(truth, truth.loadRes(found), "bbox", print_function=_silent)
    evaluation.run()
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    return {n: round(100.0 * float(v), 2) for n, v in zip(names, evaluation.stats[:6], strict=True)}


def _silent(*_: object) -> None:
    """Discard what faster-coco-eval would print."""


def _row(image_id: int, box: list[float], label: int) -> dict[str, object]:
    width, height = box[2] - box[0], box[3] - box[1]
    return {
        "image_id": image_id,
        "category_id": label + 1,
        "bbox": [box[0], box[1], width, height],
        "area": width * height,
    }


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


def card(
    detector: FasterRCNN, run: Path, assets: Path, seeds: range, ap: dict[str, float]
) -> dict[str, object]:
    """Return what ``card.json`` says: the network, its training and its measured accuracy."""
    coded = {name: name for name in tiny.CODED_LEVELS}
    edge, server = tiny.TinyEdge(detector), tiny.TinyServer(detector)
    image = normalised(generate_scene(0).image)
    with torch.no_grad():
        levels = edge(image)
    levels = (*levels, levels[-1][:, :, ::2, ::2])
    training = run / "training.json"
    return {
        "name": "tiny",
        "classes": list(CLASS_NAMES),
        "input": {"size": tiny.INPUT_SIZE, "mean": tiny.IMAGE_MEAN, "std": tiny.IMAGE_STD},
        "strides": dict(zip(tiny.LEVELS, tiny.STRIDES, strict=True)),
        "channels": tiny.CHANNELS,
        "parameters": sum(p.numel() for p in detector.parameters()),
        "macs": {
            "edge": edge_macs_table(load_model(assets / "edge.onnx"), coded),
            "server": count_macs(server, levels),
        },
        "training": json.loads(training.read_text()) if training.exists() else {},
        "evaluation": {
            "images": len(seeds),
            "seeds": [seeds.start, seeds.stop],
            "scene_size": SceneConfig().size,
            "runtime": f"onnxruntime {onnxruntime.__version__}, CPU, float32",
            "command": f"python scripts/export_tiny.py RUN --scenes {len(seeds)}",
            "coco": ap,
        },
    }


def main() -> None:
    """Read the flags, export, check, measure, write the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder that train_tiny.py wrote")
    parser.add_argument("--assets", type=Path, default=Path("fpcodec/assets/tiny"))
    parser.add_argument("--scenes", type=int, default=1000, help="held-out scenes; 0: no AP")
    parser.add_argument("--threads", type=int, default=1, help="of torch and onnxruntime")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    flags.assets.mkdir(parents=True, exist_ok=True)
    write_weights(flags.run / "weights.safetensors", flags.assets / "weights.safetensors")
    detector = tiny.load_tiny(flags.assets)
    export_graphs(detector, flags.assets)
    detect = open_graphs(flags.assets, flags.threads)
    print(f"graphs equal torch to {check(detector, detect, 20):.1e} of the image size")
    seeds = range(flags.scenes)
    ap = measure_ap(detect, seeds) if flags.scenes else {}
    print(ap)
    facts = card(detector, flags.run, flags.assets, seeds, ap)
    temporary = flags.assets / "card.json.tmp"
    temporary.write_text(json.dumps(facts, indent=2) + "\n")
    os.replace(temporary, flags.assets / "card.json")


if __name__ == "__main__":
    main()
