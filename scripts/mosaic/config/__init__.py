"""Config and sample sheet: read, checked, completed."""
