"""Mosaic integration of spatial multi-omics with SpaMosaic (Yan et al., Nature Genetics 2026).

Importing the package loads nothing heavy; import modules by name, as in ``from mosaic.integrate import graph``.
"""

__version__ = "0.1.0"  # x-release-please-version
