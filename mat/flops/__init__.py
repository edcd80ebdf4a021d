"""Count: compute in the nominal and the executed ledger, and the optimizer's own work."""

from mat.flops.executed import executed_macs

__all__ = ["executed_macs"]
