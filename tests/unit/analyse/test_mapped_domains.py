"""Domains of new slices by the model of a reference, and distances from it."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from mosaic.analyse import mapped_domains
from mosaic.analyse.random_field import View, assign_domains, field_model
from mosaic.colours import COLOURS

SIDE = 14


def tissue(name, domains, seed, shift=0.0):
    """A slice in stripes of domains: features (spots x 3), places, domain of each spot."""
    rng = np.random.default_rng(seed)
    places = np.column_stack(np.divmod(np.arange(SIDE**2), SIDE)).astype(float)
    domain = np.asarray(domains)[(places[:, 0] * len(domains) / SIDE).astype(int)]
    centres = np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0], [9, 9, 9]])
    features = centres[domain] + rng.normal(scale=1.2, size=(SIDE**2, 3)) + shift
    return name, features.astype(np.float32), places, domain


def annotated(*made):
    obs = pd.concat([pd.DataFrame({"slice": name, "barcode": np.arange(SIDE**2).astype(str)}) for name, *_ in made])
    obs.index = obs["slice"] + ":" + obs["barcode"]
    stacked = {"X_corrected": np.vstack([own[1] for own in made]), "spatial": np.vstack([own[2] for own in made])}
    return ad.AnnData(obs=obs, obsm=stacked, uns={"batch_correction": {"method": "none"}})


@pytest.fixture
def model():
    made = [tissue("a", [0, 1, 2], 0), tissue("b", [2, 0, 1], 1)]
    _, features, places, domain = (np.concatenate([np.atleast_1d(own[i]) for own in made]) for i in range(4))
    slices = np.repeat(["a", "b"], SIDE**2)
    return field_model({"rna": View(np.arange(len(domain)), features)}, places, slices, domain)


def test_a_slice_with_an_offset_gets_its_domains(model):
    _, features, places, domain = tissue("new", [1, 2, 0], 2, shift=1.0)
    found = assign_domains(model, {"rna": View(np.arange(len(domain)), features)}, places)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (model.domains[found.argmax(axis=1)] == domain).mean() > 0.95
    # Without the tissue, single spots of so much noise can't be told.
    alone = model._replace(strength=0.0)
    assert (
        model.domains[assign_domains(alone, {"rna": View(np.arange(len(domain)), features)}, places).argmax(axis=1)]
        == domain
    ).mean() < 0.9


def test_a_slice_may_lack_domains(model):
    _, features, places, domain = tissue("new", [1, 2], 3)
    found = assign_domains(model, {"rna": View(np.arange(len(domain)), features)}, places)
    assert (model.domains[found.argmax(axis=1)] == domain).mean() > 0.95


@pytest.mark.parametrize("n_slices", [1, 2])
def test_a_domain_that_the_reference_never_saw_is_far(n_slices):
    made = [tissue("a", [0, 1, 2, 0, 1, 2], 0), tissue("b", [2, 0, 1], 1)][:n_slices]
    stacked = annotated(*made)
    embedding = {"rna": ad.AnnData(obs=stacked.obs, obsm={"X_latent": stacked.obsm["X_corrected"]})}
    known = mapped_domains.reference_features(stacked, embedding, "rna")
    new = tissue("new", [0, 1, 3], 5)
    distance = mapped_domains.distances(annotated(new), known)
    inner = (new[2][:, 0] % (SIDE / 3) > 1) & (new[2][:, 0] % (SIDE / 3) < SIDE / 3 - 1)
    assert (distance[inner & (new[3] == 3)] > 1).all()
    assert (distance[inner & (new[3] != 3)] <= 1).mean() > 0.9


def test_names_and_colours_are_the_references():
    told = {"names": {"0": "follicle", "1": "1"}, "colours": {"0": "#112233", "1": "#445566"}}
    table = mapped_domains.domain_names(pd.Series([1, -1, 0, 0]), told)
    assert table["name"].to_dict() == {-1: "unassigned", 0: "follicle", 1: "1"}
    assert table.loc[0, "colour"] == "#112233"
    made_in_python = mapped_domains.domain_names(pd.Series([0, 1, 31, -1]), {})
    assert made_in_python["name"].to_dict() == {-1: "unassigned", 0: "0", 1: "1", 31: "31"}
    # As in the figures of the run; grey is left to what has no domain.
    assert made_in_python["colour"].to_dict() == {-1: "#c0c0c0", 0: COLOURS[0], 1: COLOURS[1], 31: "#c0c0c0"}
