"""Images of a slice and their scales, as Space Ranger leaves them and scanpy keeps them."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from mosaic.errors import InputError, shortened

logger = logging.getLogger(__name__)

# Scales of the images, by the image.
_SCALES = {"hires": "tissue_hires_scalef", "lowres": "tissue_lowres_scalef"}


def scalefactors(path: str) -> dict[str, float]:
    """Space Ranger's scale factors; raises InputError if the file is damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        return {str(name): float(value) for name, value in found.items() if isinstance(value, int | float)}
    except (OSError, ValueError, AttributeError) as error:
        problem = f"can't be read ({type(error).__name__}: {shortened(str(error), 200)})"
        raise InputError(problem, where=path, hint="copy or download the folder again") from error


def library(layout: Mapping[str, str], scales: Mapping[str, float]) -> dict[str, Any] | None:
    """The images of a folder with their scales, as an entry of scanpy's ``uns["spatial"]``; None without images.

    Parameters
    ----------
    layout
        Files by role: ``hires``, ``lowres``.
    scales
        As ``scalefactors`` returns them. An image without a scale can't be placed, and is left out with a message.
    """
    found = {}
    for size, scale in _SCALES.items():
        if size in layout and scale not in scales:
            logger.warning("%s: left out, because the scale factors have no %s", layout[size], scale)
        elif size in layout:
            found[size] = image(layout[size])
    return {"images": found, "scalefactors": dict(scales), "metadata": {}} if found else None


def image(path: str) -> np.ndarray:
    """An image (height x width x 3, uint8); raises InputError if it can't be read."""
    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"))
    except Exception as error:  # Pillow raises many kinds on a damaged file
        problem = f"the image can't be read ({type(error).__name__}: {shortened(str(error), 200)})"
        hint = "copy or download it again; without the file the slice is read without an image"
        raise InputError(problem, where=path, hint=hint) from error
