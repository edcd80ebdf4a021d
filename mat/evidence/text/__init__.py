"""Numbers, Markdown and LaTeX as they are written."""
