"""How far kernel estimators agree on the ranking of modules (X6, A3)."""
