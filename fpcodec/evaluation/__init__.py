"""Measuring: AP and its certainty, the rivals, agreement, and a runner that does it all at once.

``runner.evaluate`` measures a profile and its rivals on one set of images in one run;
``results`` keeps and reads the rows.
"""

from fpcodec.evaluation.agreement import Agreement as Agreement
from fpcodec.evaluation.agreement import agreement as agreement
from fpcodec.evaluation.average_precision import AveragePrecision as AveragePrecision
from fpcodec.evaluation.average_precision import evaluate_ap as evaluate_ap
from fpcodec.evaluation.bootstrap import Interval as Interval
from fpcodec.evaluation.bootstrap import paired_drops as paired_drops
from fpcodec.evaluation.environment import Environment as Environment
from fpcodec.evaluation.matching import match_detections as match_detections
from fpcodec.evaluation.results import ResultRow as ResultRow
from fpcodec.evaluation.results import bytes_at_drop as bytes_at_drop
from fpcodec.evaluation.results import read_rows as read_rows
from fpcodec.evaluation.results import write_rows as write_rows
from fpcodec.evaluation.runner import Evaluation as Evaluation
from fpcodec.evaluation.runner import evaluate as evaluate
from fpcodec.evaluation.runner import evaluate_ways as evaluate_ways
from fpcodec.evaluation.scoring import Bootstrap as Bootstrap
from fpcodec.evaluation.study import Study as Study
from fpcodec.evaluation.study import run_study as run_study
from fpcodec.evaluation.ways import parse_rival as parse_rival
