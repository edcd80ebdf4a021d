"""Count: compute in the nominal and the executed ledger, and the optimizer's own work."""
