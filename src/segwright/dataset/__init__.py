"""Data sets: their description, their cases, and what is wrong with them."""

from segwright.dataset.cases import Case, find_cases, read_case_image
from segwright.dataset.check import CheckReport, check
from segwright.dataset.description import DatasetDescription, new_description
from segwright.dataset.fix import FixReport, fix_dataset
from segwright.dataset.groups import grouped_splits, leaking_groups, read_groups
from segwright.dataset.problems import Problem
from segwright.dataset.raw import RawDataset
from segwright.dataset.splits import Split, create_splits, read_splits, split_for_fold, write_splits
from segwright.dataset.workspace import DatasetLocation, Workspace

__all__ = [
    "Case",
    "CheckReport",
    "DatasetDescription",
    "DatasetLocation",
    "FixReport",
    "Problem",
    "RawDataset",
    "Split",
    "Workspace",
    "check",
    "create_splits",
    "find_cases",
    "fix_dataset",
    "grouped_splits",
    "leaking_groups",
    "new_description",
    "read_case_image",
    "read_groups",
    "read_splits",
    "split_for_fold",
    "write_splits",
]
