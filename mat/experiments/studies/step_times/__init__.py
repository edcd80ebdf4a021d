"""How long a training step takes at an active share: what a run's seconds follow from by arithmetic (X2)."""
