"""Intervals, bootstrap, power and pooling over tasks."""
