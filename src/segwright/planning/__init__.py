"""Planning: from a fingerprint to a plan, and the plan itself."""

from __future__ import annotations

from segwright.planning.plan import Architecture, Configuration, Plan, Resampling, merge_hand_made
from segwright.planning.planner import make_plan
from segwright.planning.presets import PLANNERS, PlannerPreset, planner_named

__all__ = [
    "PLANNERS",
    "Architecture",
    "Configuration",
    "Plan",
    "PlannerPreset",
    "Resampling",
    "make_plan",
    "merge_hand_made",
    "planner_named",
]
