"""Puts the package ``mosaic`` and the published data sets on the path: import this before them."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "benchmarks")]
