"""The page that tells how good a model is, and from what it was made."""

from segwright.report.collect import ReportSources, TestFolders, collect_report
from segwright.report.content import ReportContent, StepTime
from segwright.report.page import render_report, write_report

__all__ = [
    "ReportContent",
    "ReportSources",
    "StepTime",
    "TestFolders",
    "collect_report",
    "render_report",
    "write_report",
]
