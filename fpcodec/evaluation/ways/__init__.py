"""Ways to get one image's detections over a link: features, the picture, the boxes, baselines."""

from fpcodec.evaluation.ways.base import Answer as Answer
from fpcodec.evaluation.ways.base import OpenProfile as OpenProfile
from fpcodec.evaluation.ways.base import Outcome as Outcome
from fpcodec.evaluation.ways.base import Scene as Scene
from fpcodec.evaluation.ways.base import Way as Way
from fpcodec.evaluation.ways.base import Workplace as Workplace
from fpcodec.evaluation.ways.boxes import BoxesWay as BoxesWay
from fpcodec.evaluation.ways.features import FeaturesWay as FeaturesWay
from fpcodec.evaluation.ways.mosaic import MosaicWay as MosaicWay
from fpcodec.evaluation.ways.picture import PictureWay as PictureWay
from fpcodec.evaluation.ways.prefix import PrefixWay as PrefixWay
from fpcodec.evaluation.ways.recovery import RecoveryWay as RecoveryWay
from fpcodec.evaluation.ways.seed import SeedWay as SeedWay


def parse_rival(text: str) -> Way:
    """Read a rival: ``boxes``, ``boxes:0.1``, ``webp``, ``jpeg:60``, ``avif:50:4:4:4@0.75``.

    Raises:
        InputError: The name is unknown or its number is out of range.
    """
    from fpcodec.evaluation.rivals.pictures import PictureFormat

    if text.partition(":")[0] == "boxes":
        return BoxesWay.parse(text)
    return PictureWay(PictureFormat.parse(text))
