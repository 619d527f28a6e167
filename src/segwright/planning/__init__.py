"""Planning: from a fingerprint to a plan, the plan itself, and the reasons for what is in it."""

from __future__ import annotations

from segwright.planning.explain import Explanation, explain_plan
from segwright.planning.plan import Architecture, Configuration, Plan, Resampling, merge_hand_made
from segwright.planning.planner import make_plan
from segwright.planning.presets import PLANNERS, PlannerPreset, planner_named

__all__ = [
    "PLANNERS",
    "Architecture",
    "Configuration",
    "Explanation",
    "Plan",
    "PlannerPreset",
    "Resampling",
    "explain_plan",
    "make_plan",
    "merge_hand_made",
    "planner_named",
]
