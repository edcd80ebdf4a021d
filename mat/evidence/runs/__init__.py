"""Pooled facts: runs as they lie, in tables; metrics, groups of methods."""
