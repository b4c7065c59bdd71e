"""Figures: drawing code only, no analysis."""
