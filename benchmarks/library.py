"""Puts the package ``mosaic`` of this repository on the path: import this before it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
