"""What a reference on disk must be: damaged, cut short, newer or foreign ones say what is wrong."""

import json
import shutil
import zipfile

import pytest

from mosaic import manifest
from mosaic.errors import InputError

TOLD = {"version": "", "seed": 1, "config": {}, "slices": {}, "counts": [], "domains": {}, "checks": [], "versions": {}}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "seed-1"
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"weights" * 100)
    (made / "spots.h5ad").write_bytes(b"spots" * 100)
    manifest.write_manifest(made, {**TOLD, "version": "0.1.0"})
    return made


def changed(folder, **values):
    path = folder / manifest.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_and_its_zip_say_the_same(folder, tmp_path):
    told = manifest.read_manifest(folder)
    assert set(told["files"]) == {"model.safetensors", "spots.h5ad"}
    manifest.pack(folder, tmp_path / "a.zip")
    # As other programs pack it, with the folder.
    shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path, folder.name)
    for name in ("a.zip", "b.zip"):
        assert manifest.read_manifest(tmp_path / name) == told
        manifest.unpack(tmp_path / name, tmp_path / name.removesuffix(".zip"))
        path = manifest.checked(tmp_path / name.removesuffix(".zip"), "spots.h5ad")
        assert path.read_bytes() == b"spots" * 100


def test_it_must_be_there(tmp_path):
    with pytest.raises(InputError, match=r"is not there"):
        manifest.read_manifest(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"has no reference.json, so it is no reference"):
        manifest.read_manifest(tmp_path)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(InputError, match=r"has no reference.json, so it is no reference"):
        manifest.read_manifest(tmp_path / "other.zip")


def test_a_newer_format_is_told(folder):
    changed(folder, format=manifest.FORMAT + 1, version="9.9.9")
    with pytest.raises(InputError, match=r"has format 2, of version 9.9.9; this version reads up to 1"):
        manifest.read_manifest(folder)


def test_a_key_that_lacks_is_told(folder):
    path = folder / manifest.MANIFEST
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "seed"}))
    with pytest.raises(InputError, match=r"lacks seed"):
        manifest.read_manifest(folder)


def test_cut_short(folder, tmp_path):
    manifest.pack(folder, tmp_path / "a.zip")
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"can't be read"):
        manifest.read_manifest(tmp_path / "a.zip")
    (folder / "spots.h5ad").write_bytes(b"spots")
    with pytest.raises(InputError, match=r"spots.h5ad has 5 bytes instead of 500"):
        manifest.read_manifest(folder)
    (folder / "spots.h5ad").unlink()
    with pytest.raises(InputError, match=r"lacks spots.h5ad"):
        manifest.read_manifest(folder)
    (folder / manifest.MANIFEST).write_text('{"format": 1, ')
    with pytest.raises(InputError, match=r"reference.json is cut short or damaged"):
        manifest.read_manifest(folder)


def test_a_changed_byte_is_seen(folder, tmp_path):
    (folder / "model.safetensors").write_bytes(b"weighty" * 100)
    with pytest.raises(InputError, match=r"model.safetensors is damaged: it is not what was written"):
        manifest.checked(folder, "model.safetensors")
    with pytest.raises(InputError, match=r"has no other.h5ad"):
        manifest.checked(folder, "other.h5ad")


def test_nothing_is_unpacked_outside_of_the_folder(folder, tmp_path):
    files = json.loads((folder / manifest.MANIFEST).read_text())["files"]
    changed(folder, files=files | {"..": {"size": 1, "sha256": ""}})
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
        archive.writestr("..", "x")
    with pytest.raises(InputError, match=r"is no name of a file of it"):
        manifest.unpack(tmp_path / "a.zip", tmp_path / "there")
