"""Baseline methods, for comparison."""
