"""What modules were cut by, confirmed by gradients on an example."""
