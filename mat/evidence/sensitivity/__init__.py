"""The register of open choices, and what varying them changes."""
