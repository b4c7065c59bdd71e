"""The frame of a slice's coordinates: the tissue image in it and its unit.

Its file, ``<results>/tissue/{slice}.json``, is JSON with these keys::

    {
      "slice": "s1",
      "microns_per_unit": 0.73,     # micrometres in a unit of the coordinates; null: unknown
      "spot_diameter": 89.4,        # in units of the coordinates; null: unknown
      "image": {                    # null: the slice has none
        "png": "iVBORw0KGgo...",    # 8 bits per channel, RGB, in base64; at most 2,000 pixels on its long side
        "width": 12034.0,           # the image covers the coordinates x from 0 to width
        "height": 11572.0           # and y from 0 to height
      }
    }

y points down, as in images: (0, 0) is the upper left corner of the image. Coordinates are those in ``obsm["spatial"]``
of every file of the run.
"""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mosaic.errors import InputError
from mosaic.files import atomic_write


class Frame(NamedTuple):
    """What is known of a slice's coordinates.

    Attributes
    ----------
    image
        The tissue (height x width x 3, uint8); None: the slice has no image.
    width, height
        The image covers x from 0 to ``width`` and y from 0 to ``height``, in units of the coordinates; y points down.
    microns_per_unit
        Micrometres in a unit of the coordinates; None: unknown.
    spot_diameter
        Diameter of a spot in the unit of the coordinates; None: unknown.
    """

    image: np.ndarray | None = None
    width: float = 0.0
    height: float = 0.0
    microns_per_unit: float | None = None
    spot_diameter: float | None = None


def write_frame(frame: Frame, slice_name: str, path: str | Path) -> None:
    """Write the frame of a slice as JSON (see the module's docstring)."""
    image = None
    if frame.image is not None:
        packed = io.BytesIO()
        Image.fromarray(frame.image).save(packed, format="png")
        png = base64.b64encode(packed.getvalue()).decode("ascii")
        image = {"png": png, "width": frame.width, "height": frame.height}
    told = {
        "slice": slice_name,
        "microns_per_unit": frame.microns_per_unit,
        "spot_diameter": frame.spot_diameter,
        "image": image,
    }
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(told), encoding="utf-8")


def read_frames(paths: Sequence[str | Path], *, images: bool = True) -> dict[str, Frame]:
    """Read the frames of slices.

    Parameters
    ----------
    paths
        Files that ``write_frame`` wrote.
    images
        Whether to read the images; without, ``Frame.image`` is None.

    Returns
    -------
    dict from slice to Frame.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    frames = {}
    for path in paths:
        try:
            told = json.loads(Path(path).read_text(encoding="utf-8"))
            image = told["image"] if images else None
            shown = {} if image is None else {key: image[key] for key in ("width", "height")}
            if image is not None:
                shown["image"] = np.asarray(Image.open(io.BytesIO(base64.b64decode(image["png"]))))
            units = {key: told[key] for key in ("microns_per_unit", "spot_diameter")}
            frames[told["slice"]] = Frame(**shown, **units)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"is damaged ({type(error).__name__}: {error})",
                where=str(path),
                hint="delete this file and run again: the workflow will rebuild it",
            ) from error
    return frames
