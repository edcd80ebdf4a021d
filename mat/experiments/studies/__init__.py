"""Measure beside runs: agreement of estimators, branches from checkpoints, the ceiling of a step."""
