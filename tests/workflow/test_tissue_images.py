"""Images and units on their way from the users' files to the figures."""

import json

import numpy as np
from chain import THREE_SLICES
from running import Checkout

from mosaic import store
from mosaic.frame import read_frames

CONFIG = {
    "modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}},
    "cluster": {"n_domains": 3},
    "um_per_unit": {"s3": 2.0},
}


def with_images(checkout: Checkout) -> None:
    """RNA of s1 tells its unit, ADT of s1 has an image, s2 has nothing."""
    checkout.simulate(THREE_SLICES, json.dumps(CONFIG))
    image = np.zeros((50, 60, 3), np.uint8)
    factors = {"tissue_hires_scalef": 0.04}
    told = {
        "rna": {"microns_per_unit": 0.5, "junk": np.ones(3)},
        "adt": {"spatial": {"lib": {"images": {"hires": image}, "scalefactors": factors}}},
    }
    for name, uns in told.items():
        path = checkout.folder / f"user/s1.{name}.h5ad"
        adata = store.read(path)
        adata.uns = uns
        store.write(adata, path)


def test_images_and_units_come_from_the_files_and_the_config(checkout):
    with_images(checkout)
    done = checkout.snakemake(*(f"results/tissue/{name}.json" for name in ("s1", "s2", "s3")), "results/qc/s1.rna.h5ad")
    assert done.returncode == 0, done.stdout + done.stderr
    frames = read_frames(sorted((checkout.folder / "results/tissue").glob("*.json")))
    assert frames["s1"].image.shape == (50, 60, 3)
    assert frames["s1"][1:4] == (1500, 1250, 0.5)
    assert frames["s2"].image is frames["s2"].microns_per_unit is frames["s3"].image is None
    assert frames["s3"].microns_per_unit == 2
    assert not store.read(checkout.folder / "results/qc/s1.rna.h5ad").uns
    again = checkout.snakemake("--dry-run", "results/tissue/s1.json")
    assert "Nothing to be done" in again.stdout + again.stderr
    # A figure's settings make the figures stale, and nothing else.
    changed = checkout.snakemake("--dry-run", "--config", "figures={image: false}", "--", "results/tissue/s1.json")
    assert "Nothing to be done" in changed.stdout + changed.stderr
