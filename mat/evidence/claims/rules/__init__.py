"""How each claim's measure is read off pooled runs and decided."""
