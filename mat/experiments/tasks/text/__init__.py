"""What tasks of text share."""
