"""The tissue image of a slice and the unit of its coordinates, from what a file's ``uns`` tells of them."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from mosaic.errors import InputError, few
from mosaic.frame import Frame
from mosaic.spatial import astray

logger = logging.getLogger(__name__)

# Pixels on the long side of an image that goes on.
_MOST_PIXELS = 2000

# Of the spots, this proportion must lie on an image of the same frame; an image may end within the outermost spots.
_ON_IMAGE = 0.95

_WITHOUT = 'or drop it, del adata.uns["spatial"]'


def frame_of(uns: Mapping, coordinates: np.ndarray, slice_name: str, where: str) -> Frame:
    """The frame of a slice's coordinates, of the named parts of ``uns`` alone.

    Parameters
    ----------
    uns
        Of an AnnData: ``spatial``, as Space Ranger's readers write it, per library ``images`` (``hires`` or ``lowres``)
        and ``scalefactors`` (``tissue_hires_scalef``, ``tissue_lowres_scalef``, ``spot_diameter_fullres``,
        ``microns_per_pixel``), and ``microns_per_unit``. Each may be missing.
    coordinates
        Spots x 2, in pixels of the full-resolution image if there is an image.
    slice_name
        The slice, whose name one of several libraries may have.
    where
        The file, for messages.

    Returns
    -------
    Frame, with the image in 8 bits per channel and at most 2,000 pixels on its long side. Without an image where the
    spots do not lie on it, which is logged.

    Raises
    ------
    InputError
        If the image is no image, its scale is missing, or a number is none.
    """
    library = _library(uns.get("spatial"), slice_name, where)
    factors = library.get("scalefactors", {})
    factors = factors if isinstance(factors, Mapping) else {}
    microns = _positive(uns, "microns_per_unit", 'uns["microns_per_unit"]', where)
    if microns is None:
        microns = _positive(factors, "microns_per_pixel", "microns_per_pixel of the image", where)
    frame = Frame(
        microns_per_unit=microns,
        spot_diameter=_positive(factors, "spot_diameter_fullres", "spot_diameter_fullres of the image", where),
    )
    images = library.get("images", {})
    images = images if isinstance(images, Mapping) else {}
    resolution = next((name for name in ("hires", "lowres") if name in images), None)
    if resolution is None:
        return frame
    called = f"the {resolution} image of the tissue"
    key = f"tissue_{resolution}_scalef"
    scale = _positive(factors, key, f"{key} of the image", where)
    if scale is None:
        hint = f"put {key}, pixels of this image per unit of the coordinates, beside it, {_WITHOUT}"
        raise InputError(
            f"{called} has no scale: scalefactors has {few(list(factors)) or 'nothing'}", where=where, hint=hint
        )
    given = np.asarray(images[resolution])
    pixels = _pixels(given, called, where)
    height, width = (length / scale for length in given.shape[:2])
    known = coordinates[~astray(coordinates)]
    on = ((known >= 0) & (known <= (width, height))).all(axis=1).mean()
    if on < _ON_IMAGE:
        logger.warning(
            "%s: %.0f %% of the spots lie on %s, which covers x 0 to %.6g and y 0 to %.6g: it is not drawn. Give the "
            "coordinates in pixels of the full-resolution image, %s",
            where,
            100 * on,
            called,
            width,
            height,
            _WITHOUT,
        )
        return frame
    return frame._replace(image=pixels, width=width, height=height)


def frame_of_slice(frames: Iterable[Frame], microns_per_unit: float | None = None) -> Frame:
    """The frame of a slice: image and unit of the first of its modalities that has them.

    Parameters
    ----------
    frames
        Of the slice's modalities.
    microns_per_unit
        What the config says, which takes precedence; None: nothing.
    """
    found = Frame()
    for frame in frames:
        if found.image is None and frame.image is not None:
            found = found._replace(image=frame.image, width=frame.width, height=frame.height)
        found = found._replace(
            microns_per_unit=found.microns_per_unit or frame.microns_per_unit,
            spot_diameter=found.spot_diameter or frame.spot_diameter,
        )
        if found.image is not None and found.microns_per_unit is not None:
            break
    return found if microns_per_unit is None else found._replace(microns_per_unit=microns_per_unit)


def _library(spatial: Any, slice_name: str, where: str) -> Mapping:
    """The library of this slice; empty if there is none, or it can't be told which is."""
    if not isinstance(spatial, Mapping):
        return {}
    libraries = {str(name): library for name, library in spatial.items() if isinstance(library, Mapping)}
    if len(libraries) > 1 and slice_name not in libraries:
        logger.warning(
            '%s: uns["spatial"] has %s, none of which has the name of the slice, %s: no image is drawn',
            where,
            few(list(libraries)),
            slice_name,
        )
        return {}
    return libraries.get(slice_name, next(iter(libraries.values()), {}))


def _positive(values: Mapping, key: str, called: str, where: str) -> float | None:
    """A number above zero; None if it is not there."""
    value = values.get(key)
    if value is None:
        return None
    try:
        number = float(np.asarray(value).item())
    except (TypeError, ValueError):
        number = np.nan
    if not 0 < number < np.inf:
        raise InputError(f"{called} is {value!r}", where=where, hint="it must be one number above zero, or not there")
    return number


def _pixels(image: np.ndarray, called: str, where: str) -> np.ndarray:
    """An image as RGB, uint8, at most ``_MOST_PIXELS`` on its long side."""
    kind = image.dtype.kind
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or kind not in "buif":
        raise InputError(
            f"{called} has shape {image.shape} and type {image.dtype}",
            where=where,
            hint=f"it must be height x width x 3 (RGB), 4 (with transparency) or one channel, {_WITHOUT}",
        )
    if 0 in image.shape or not np.isfinite(image).all() or image.min() < 0:
        raise InputError(
            f"{called} has shape {image.shape} and values that are missing or below zero",
            where=where,
            hint=f"give colours from 0 to 1, or from 0 to 255, {_WITHOUT}",
        )
    if kind == "f":
        image = image * 255 if image.max() <= 1 else image
    elif kind == "b":
        image = image * 255
    elif image.max() > 255:  # 16 bits
        image = image / image.max() * 255
    image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    shown = Image.fromarray(np.clip(np.round(image), 0, 255).astype(np.uint8))
    if shown.mode == "RGBA":
        paper = Image.new("RGBA", shown.size, "white")
        shown = Image.alpha_composite(paper, shown)
    shown = shown.convert("RGB")
    shown.thumbnail((_MOST_PIXELS, _MOST_PIXELS), Image.Resampling.LANCZOS)
    return np.asarray(shown)
