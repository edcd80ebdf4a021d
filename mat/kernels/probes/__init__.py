"""What a training step or a probe of it measures, how much of it, and how often."""
