"""Reports of measured rows: curves, one self-contained page, Markdown tables for a README."""

from fpcodec.evaluation.report.comparisons import Comparisons as Comparisons
from fpcodec.evaluation.report.markdown import bd_markdown as bd_markdown
from fpcodec.evaluation.report.markdown import (
    operating_points_markdown as operating_points_markdown,
)
from fpcodec.evaluation.report.markdown import report_markdown as report_markdown
from fpcodec.evaluation.report.markdown import rows_markdown as rows_markdown
from fpcodec.evaluation.report.markdown import source_markdown as source_markdown
from fpcodec.evaluation.report.source import ResultSet as ResultSet
from fpcodec.evaluation.report.source import load_results as load_results
from fpcodec.evaluation.report.verdict import verdict as verdict
from fpcodec.evaluation.report.write import write_report as write_report
