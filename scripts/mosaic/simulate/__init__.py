"""Simulated mosaics: tissue, counts, and their design."""
