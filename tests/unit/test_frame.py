"""The frame of a slice's coordinates, written and read again."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from mosaic import frame
from mosaic.errors import InputError


def test_a_frame_comes_back_as_it_was_and_its_png_opens_elsewhere(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    given = frame.Frame(image, 70.0, 50.0, 0.5, 89.0)
    frame.write_frame(given, "s1", tmp_path / "s1.json")
    frame.write_frame(frame.Frame(), "s2", tmp_path / "s2.json")
    found = frame.read_frames([tmp_path / "s1.json", tmp_path / "s2.json"])
    assert found["s2"] == frame.Frame()
    np.testing.assert_array_equal(found["s1"].image, image)
    assert found["s1"][1:] == given[1:]
    told = json.loads((tmp_path / "s1.json").read_text())
    assert (told["slice"], told["microns_per_unit"], told["spot_diameter"]) == ("s1", 0.5, 89.0)
    assert (told["image"]["width"], told["image"]["height"]) == (70, 50)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(told["image"]["png"])))), image)
    without = frame.read_frames([tmp_path / "s1.json"], images=False)["s1"]
    assert without == frame.Frame(microns_per_unit=0.5, spot_diameter=89.0)


@pytest.mark.parametrize("change", [lambda text: text[:40], lambda text: text.replace("iVBO", "AAAA"), lambda _: "{}"])
def test_a_damaged_frame_is_told(tmp_path, change):
    path = tmp_path / "s1.json"
    frame.write_frame(frame.Frame(np.zeros((5, 7, 3), np.uint8), 7.0, 5.0), "s1", path)
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=r"s1.json: is damaged \(.*\)\n.*delete this file and run again"):
        frame.read_frames([path])
