"""Data sets: their description, their cases, splits and groups, and their folders."""

from segwright.dataset.cases import Case, find_cases, read_case_image
from segwright.dataset.description import DatasetDescription, new_description
from segwright.dataset.groups import grouped_splits, leaking_groups, read_groups
from segwright.dataset.problems import Problem
from segwright.dataset.raw import RawDataset
from segwright.dataset.splits import Split, create_splits, read_splits, split_for_fold, write_splits
from segwright.dataset.workspace import DatasetLocation, Workspace

__all__ = [
    "Case",
    "DatasetDescription",
    "DatasetLocation",
    "Problem",
    "RawDataset",
    "Split",
    "Workspace",
    "create_splits",
    "find_cases",
    "grouped_splits",
    "leaking_groups",
    "new_description",
    "read_case_image",
    "read_groups",
    "read_splits",
    "split_for_fold",
    "write_splits",
]
