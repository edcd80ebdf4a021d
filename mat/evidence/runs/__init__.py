"""Pooled facts: runs, curves, spectra, metrics, groups of methods."""
