"""The report on a model: its scores, data, plan and training."""

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
