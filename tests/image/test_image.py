"""The image as users have it: built of the Dockerfile, and run on a mosaic by a user whom it does not know."""

import os
from pathlib import Path

import mudata as md
import pytest
from builder import Buildah, Image, installed_or_skip
from chain import THREE_SLICES
from running import write_mosaic

pytestmark = pytest.mark.image

USER = 1234
CONFIG = """
slices: config/slices.tsv
modalities: {rna: {kind: rna}, adt: {kind: protein}}
train: {T: 0.1, n_epochs: 20}
cluster: {n_domains: 3}
truth: domain
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Image:
    installed_or_skip()
    buildah = Buildah(tmp_path_factory.mktemp("buildah"))
    try:
        yield Image(buildah)
    finally:
        buildah.remove_all()


@pytest.fixture
def work(tmp_path) -> Path:
    """A user's folder with a small mosaic."""
    folder = tmp_path / "work"
    folder.mkdir()
    write_mosaic(folder, THREE_SLICES, CONFIG)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER)
    return folder


def test_a_whole_run_by_any_user(image, work):
    done = image.run(work, f"{USER}:{USER}", "--cores", "2")
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    result = md.read_h5mu(work / "results/integrated.h5mu")
    assert set(result.obs["slice"]) == set(THREE_SLICES["slices"])
    assert set(result.mod) == {"rna", "adt", "adt_imputed"}
    assert result.obs["domain"].nunique() == 3
    assert "<img" in (work / "results/landing.html").read_text()
    explorer = work / "results/explorer"
    assert {"index.html", "explorer.js", "data"} <= {path.name for path in explorer.iterdir()}
    assert {path.stat().st_uid for path in (work / "results").rglob("*")} == {USER}
    done = image.run(work, f"{USER}:{USER}", "--report", "results/report.html")
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert (work / "results/report.html").stat().st_size > 1e6

    top = [path for path in image.root.iterdir() if path.is_dir() and path.name not in ("work", "tmp", "proc", "sys")]
    written = [path for folder in top for path in folder.rglob("*") if path.lstat().st_uid == USER]
    assert not written
    assert any(path.lstat().st_uid == USER for path in (image.root / "tmp").iterdir())


@pytest.mark.parametrize(
    ("part", "told"), [("resources", "/opt/spamosaic/resources/"), ("scripts", "No module named 'mosaic'")]
)
def test_a_part_that_was_left_out_is_missed(image, work, part, told):
    """So that what the other tests run does come from the image."""
    arguments = (work, f"{USER}:{USER}", "--dry-run")
    whole = image.run(*arguments)
    assert whole.returncode == 0
    assert "workflow specific profile /opt/spamosaic/profiles/default" in whole.stdout + whole.stderr
    place = image.root / "opt/spamosaic" / part
    aside = place.rename(place.with_name("aside"))
    try:
        partial = image.run(*arguments)
    finally:
        aside.rename(place)
    assert partial.returncode != 0
    assert told in partial.stdout + partial.stderr


def test_a_user_without_a_name_could_not_run_it(image, work):
    """So that the other tests do run as one."""
    done = image.run(work, f"{USER}:{USER}", "--dry-run", options=("--env=USER=",))
    assert done.returncode != 0
    assert f"uid not found: {USER}" in done.stdout + done.stderr
