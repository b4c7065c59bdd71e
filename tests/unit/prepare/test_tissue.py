"""Tissue images and units, from the `uns` of users' files."""

import re
import warnings

import numpy as np
import pytest

from mosaic.errors import InputError
from mosaic.frame import Frame
from mosaic.prepare import read, tissue


def visium(raw, *, image=None, resolution="hires", scale=0.5, library="lib", **uns):
    """The same with an image of Space Ranger's form, which covers 20 x 20 units."""
    image = np.zeros((10, 10, 3), np.float32) if image is None else image
    factors = {f"tissue_{resolution}_scalef": scale, "spot_diameter_fullres": 0.6}
    raw.uns["spatial"] = {library: {"images": {resolution: image}, "scalefactors": factors}}
    raw.uns |= uns
    return raw


def two_ways(raw, written, slice_name="s1"):
    """The frame from memory and from a file, which must agree."""
    one, other = read.read_tissue(raw, slice_name), read.read_tissue(written(raw), slice_name)
    assert one[1:] == other[1:]
    np.testing.assert_array_equal(one.image, other.image)
    return other


def test_a_file_without_image_has_an_empty_frame(raw_slice, written):
    raw = raw_slice()
    raw.uns["junk"] = {"images": {"hires": np.zeros((3, 3, 3))}}
    assert two_ways(raw, written) == Frame()


def test_image_scale_and_unit(raw_slice, written):
    image = np.zeros((12, 10, 3), np.float32)
    image[0, 9] = (1, 0.5, 0.2)
    frame = two_ways(visium(raw_slice(), image=image, microns_per_unit=7.5), written)
    assert frame[1:] == (20.0, 24.0, 7.5, 0.6)
    assert frame.image.dtype == np.uint8
    assert frame.image[0, 9].tolist() == [255, 128, 51]
    assert frame.image.sum() == 255 + 128 + 51


def test_nothing_of_uns_goes_into_the_counts(raw_slice, written):
    assert not read.read_slice(written(visium(raw_slice(), microns_per_unit=7.5)), "s1", "rna").uns


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        (np.full((10, 10), 0.2), (51, 51, 51)),
        (np.full((10, 10, 1), 51, np.uint8), (51, 51, 51)),
        (np.full((10, 10, 4), (255, 0, 0, 51), np.uint8), (255, 204, 204)),
        (np.full((10, 10, 3), (65535, 13107, 0), np.uint16), (255, 51, 0)),
        (np.full((10, 10, 3), (200.0, 51, 0)), (200, 51, 0)),
        (np.ones((10, 10), bool), (255, 255, 255)),
    ],
)
def test_colours_however_they_are_stored(raw_slice, written, image, seen):
    assert two_ways(visium(raw_slice(), image=image), written).image[3, 4].tolist() == list(seen)


def test_large_images_become_small_and_cover_the_same(raw_slice, written):
    image = np.zeros((1000, 4001, 3), np.uint8)
    image[:, 3000:] = 255
    frame = two_ways(visium(raw_slice(), image=image, scale=100.0), written)
    assert frame.image.shape == (500, 2000, 3)
    assert (frame.width, frame.height) == (40.01, 10.0)
    assert frame.image[:, 1498].max() < 20
    assert frame.image[:, 1501].min() > 235


def test_the_better_of_two_resolutions_with_its_own_scale(raw_slice, written):
    raw = visium(raw_slice(), resolution="lowres", scale=0.25)
    assert two_ways(raw, written)[1:3] == (40.0, 40.0)
    library = raw.uns["spatial"]["lib"]
    library["images"]["hires"] = np.zeros((30, 30, 3))
    library["scalefactors"]["tissue_hires_scalef"] = 1.0
    assert two_ways(raw, written)[1:3] == (30.0, 30.0)


def test_of_several_libraries_the_one_with_the_name_of_the_slice(raw_slice, written, caplog):
    raw = visium(raw_slice(), library="other")
    raw.uns["spatial"]["s2"] = {"images": {"hires": np.ones((10, 10, 3))}, "scalefactors": {"tissue_hires_scalef": 0.5}}
    assert two_ways(raw, written, "s2").image.min() == 255
    assert two_ways(raw, written, "s1") == Frame()
    assert 'uns["spatial"] has other, s2, none of which has the name of the slice, s1: no image is drawn' in caplog.text


def test_microns_per_pixel_of_visium_hd(raw_slice, written):
    raw = visium(raw_slice())
    raw.uns["spatial"]["lib"]["scalefactors"]["microns_per_pixel"] = 0.27
    assert two_ways(raw, written).microns_per_unit == 0.27
    raw.uns["microns_per_unit"] = 2
    assert two_ways(raw, written).microns_per_unit == 2.0


def test_an_image_of_another_frame_is_not_drawn(raw_slice, written, caplog):
    raw = visium(raw_slice())
    raw.obsm["spatial"] *= 100
    frame = two_ways(raw, written)
    assert frame.image is None
    assert frame.spot_diameter == 0.6
    assert "3 % of the spots lie on the hires image of the tissue, which covers x 0 to 20" in caplog.text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda uns: uns["spatial"]["lib"]["scalefactors"].pop("tissue_hires_scalef"), "hires image .* has no scale"),
        (lambda uns: uns["spatial"]["lib"].pop("scalefactors"), "has no scale: scalefactors has nothing"),
        (
            lambda uns: uns["spatial"]["lib"]["scalefactors"].update(tissue_hires_scalef=-1.0),
            "_scalef .* is .*-1.0",
        ),
        (lambda uns: uns["spatial"]["lib"]["images"].update(hires=np.zeros(5)), r"has shape \(5,\)"),
        (lambda uns: uns["spatial"]["lib"]["images"].update(hires=np.zeros((5, 5, 2))), r"has shape \(5, 5, 2\)"),
        (lambda uns: uns["spatial"]["lib"]["images"].update(hires="path.png"), r"has shape \(\)"),
        (lambda uns: uns["spatial"]["lib"]["images"].update(hires=np.full((5, 5), np.nan)), "values that are missing"),
        (lambda uns: uns.update(microns_per_unit="many"), r'uns\["microns_per_unit"\] is .*many'),
        (lambda uns: uns.update(microns_per_unit=0), r'uns\["microns_per_unit"\] is .*0'),
    ],
)
def test_what_is_no_image_is_told_in_the_run_and_in_the_check(raw_slice, written, change, problem):
    raw = visium(raw_slice())
    change(raw.uns)
    path = written(raw)
    for look in (lambda: read.read_tissue(raw, "s1"), lambda: read.read_tissue(path, "s1")):
        with pytest.raises(InputError, match=problem):
            look()
    _, faults = read.inspect_slice(path, "s1", "rna")
    assert [bool(re.search(problem, str(fault))) for fault in faults] == [True]
    assert problem.split(" .*")[0].split("has shape")[0] in str(faults[0]).replace("\\", "") or "image" in str(
        faults[0]
    )


@pytest.mark.parametrize("spatial", [np.zeros((30, 2)), {}, {"lib": {}}, {"lib": {"images": {}}}, {"lib": 5}])
def test_other_things_under_the_name_are_no_image(raw_slice, written, spatial):
    raw = raw_slice()
    raw.uns["spatial"] = spatial
    assert two_ways(raw, written) == Frame()


def test_a_slice_has_the_image_and_the_unit_of_the_first_modality_that_has_them():
    image = np.zeros((2, 2, 3), np.uint8)
    frames = [Frame(spot_diameter=3.0), Frame(image, 4.0, 5.0), Frame(image + 1, 1.0, 1.0, 2.0), Frame(None, 0, 0, 9.0)]
    found = tissue.frame_of_slice(frames)
    assert found.image is image
    assert found[1:] == (4.0, 5.0, 2.0, 3.0)
    assert tissue.frame_of_slice(frames, 0.1).microns_per_unit == 0.1
    assert tissue.frame_of_slice([]) == Frame()


def test_a_real_folder_of_space_ranger(shared_data, written):
    scanpy = pytest.importorskip("scanpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scanpy's reader is deprecated, and of names that repeat
        raw = scanpy.read_visium(shared_data / "formats/visium_sr1/outs")
    raw.obsm["spatial"] = raw.obsm["spatial"].astype(float)
    frame = two_ways(raw, written)
    assert frame.image.shape == (2000, 2000, 3)
    assert frame.width == frame.height == pytest.approx(2000 / 0.150015)
    assert (raw.obsm["spatial"].max(axis=0) < frame.width).all()
