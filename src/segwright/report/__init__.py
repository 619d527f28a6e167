"""The page that tells how good a model is, and from what it was made."""

from segwright.report.cases import CaseFiles
from segwright.report.collect import ReportSources, TestFolders, collect_report
from segwright.report.content import ReportContent, StepTime
from segwright.report.page import render_report, write_report
from segwright.report.picture import write_overview

__all__ = [
    "CaseFiles",
    "ReportContent",
    "ReportSources",
    "StepTime",
    "TestFolders",
    "collect_report",
    "render_report",
    "write_overview",
    "write_report",
]
