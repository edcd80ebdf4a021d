"""What runs exist: a scale's config, specifications of runs, selections, plug-ins."""
