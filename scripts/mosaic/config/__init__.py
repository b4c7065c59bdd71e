"""Config and sample sheet: reading, checks and defaults."""
