"""Draw generated scenes with their boxes, as a folder in COCO's form.

    python scripts/draw_scenes.py --count 1000 --out runs/scenes
    python scripts/draw_scenes.py --crowded --count 600 --out runs/crowds

Scenes of the seeds 0 to 99,999 are held out: training and calibration draw above a million.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fpcodec.data import SceneConfig, write_coco
from fpcodec.data.scenes import CROWDED


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, metavar="N")
    parser.add_argument("--first-seed", type=int, default=0, metavar="SEED")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--crowded", action="store_true", help="objects in front of ones like them")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.count)
    print(write_coco(options.out, seeds, CROWDED if options.crowded else SceneConfig()))


if __name__ == "__main__":
    main()
