"""Why a plan is as it is, what an edit would do, and what a training step takes."""
