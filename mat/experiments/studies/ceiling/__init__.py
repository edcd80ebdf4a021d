"""What a training step can save at most, by the closed forms."""
