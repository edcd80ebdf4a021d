"""What trainability stands on: every module that was trained alone, with what was known of it at the checkpoint."""

from __future__ import annotations

from mat.evidence.tables import branches, trainability
from mat.evidence.tables.record import Table

TABLE = Table(
    "trainability_modules",
    "Trainability by module",
    lambda given: trainability.modules(branches.load_part(given.measured, branches.MODULE)),
    about="One row per checkpoint and module.",
    place=100,
    **branches.STUDY,
)
