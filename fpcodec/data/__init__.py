"""Pictures to train, test and measure on: generated scenes."""

from __future__ import annotations

from fpcodec.data.coco_export import write_coco
from fpcodec.data.scenes import Scene, SceneConfig, generate_scene
from fpcodec.data.shapes import CLASS_NAMES

__all__ = ["CLASS_NAMES", "Scene", "SceneConfig", "generate_scene", "write_coco"]
