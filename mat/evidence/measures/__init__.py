"""What is measured of pooled runs: of a run's curve, probes and selections, and over its seeds."""
