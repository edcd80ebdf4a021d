"""What a step is made of: the parts of every model's step, which the study of the ceiling computes from shapes."""

from __future__ import annotations

from mat.evidence.tables.record import Table

SHAPES = "workflows/config/{scale}.yaml"
TABLE = Table("ceiling_parts", "What a step is made of", reads=(SHAPES,), needs="ceiling", place=140)
