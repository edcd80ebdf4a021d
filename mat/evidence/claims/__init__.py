"""The claims, their decision rules, and verdicts."""
