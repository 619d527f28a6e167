"""Data sets: their description, their cases, and what is wrong with them."""

from segwright.dataset.cases import Case, find_cases, read_case_image
from segwright.dataset.description import DatasetDescription, new_description
from segwright.dataset.problems import Problem
from segwright.dataset.raw import RawDataset

__all__ = [
    "Case",
    "DatasetDescription",
    "Problem",
    "RawDataset",
    "find_cases",
    "new_description",
    "read_case_image",
]
