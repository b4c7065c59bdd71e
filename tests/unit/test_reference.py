"""A reference from a run to new slices: what is written is read, and new slices get its domains."""

import copy
import dataclasses

import numpy as np
import pytest
from chain import THREE_SLICES, simulated
from sklearn.metrics import adjusted_rand_score

from mosaic.analyse.mapped_domains import UNASSIGNED
from mosaic.analyse.metrics import foscttm
from mosaic.analyse.reference_files import donors_of
from mosaic.config import settings
from mosaic.config.design import SampleRow, SampleSheet
from mosaic.config.schema import read_yaml
from mosaic.errors import InputError
from mosaic.reference import Reference
from mosaic.simulate.counts import simulate_mosaic

DESIGN = copy.deepcopy(THREE_SLICES)
DESIGN["slices"] |= {"s4": ["rna", "adt"], "s5": ["rna"]}
NEW = ("s4", "s5")


@pytest.fixture(scope="module")
def slices():
    made = simulate_mosaic(DESIGN, seed=0)
    for (_, modality), adata in made.items():
        if modality == "rna":
            adata.var["gene_ids"] = [f"ENSG{number:011d}" for number in range(adata.n_vars)]
    return made


@pytest.fixture(scope="module")
def reference(slices):
    from mosaic.pipeline import Pipeline

    run = simulated(THREE_SLICES)
    return Pipeline.from_slices({key: own for key, own in slices.items() if key[0] not in NEW}, run.config).reference()


@pytest.fixture(scope="module")
def mapped(reference, slices):
    return reference.map({key: own for key, own in slices.items() if key[0] in NEW})


def truth_of(slices, name, table):
    domain = slices[name, "rna"].obs["domain"]
    spots = table[table["slice"] == name]
    return domain.loc[[spot.split(":")[1] for spot in spots.index]].to_numpy(), spots["domain"].to_numpy()


def test_new_slices_get_the_domains(slices, mapped):
    assert set(mapped.domains.table["slice"]) == set(NEW)
    for name in NEW:
        assert adjusted_rand_score(*truth_of(slices, name, mapped.domains.table)) > 0.6
    told = mapped.domains.slices.set_index("slice")
    assert (told["near"] > 0.9).all()
    assert (told["found"] == 1).all()
    assert told.loc["s4", "foscttm"] < 0.3
    assert np.isnan(told.loc["s5", "foscttm"])
    assert mapped.domains.umap.notna().all().all()


def test_confidence_is_that_of_the_modalities_in_any_order(reference, slices):
    spots = reference.spots.copy()
    spots.uns["agreement"] = {"rna+adt": {str(domain): 0.4 for domain in range(3)}}
    known = dataclasses.replace(reference, spots=spots)
    found = known.map({("s4", modality): slices["s4", modality] for modality in ("adt", "rna")}).domains.confidence
    assert (found["modalities"] == "adt+rna").all()
    assert (found.loc[found["domain"] != UNASSIGNED, "agreement"] == 0.4).all()


def test_a_new_slice_has_the_median_of_neighbours_given_by_slice(reference, slices):
    new = {key: own for key, own in slices.items() if key[0] == "s5"}
    own = {"s1": 8, "s2": 4, "s3": 12}
    latent = []
    for knns in (own, own | {"s5": 8}):
        config = copy.deepcopy(reference.config)
        config["graph"]["intra_knns"] = knns
        latent.append(np.asarray(dataclasses.replace(reference, config=config).map(new).embedding.obsm["X_latent"]))
    np.testing.assert_array_equal(*latent)


def test_quality_control_of_the_reference_is_the_default_key_by_key(reference, tmp_path):
    config = copy.deepcopy(reference.config)
    config["qc"]["rna"] |= {"min_counts": 20, "max_mito_percent": 30}
    dataclasses.replace(reference, config=config).save(tmp_path / "atlas")
    schemas = [read_yaml(settings.SCHEMAS / f"{name}.schema.yaml") for name in ("config", "slices")]
    sheet = SampleSheet([SampleRow("s4", "rna", "s4.h5ad"), SampleRow("s4", "adt", "s4.adt.h5ad")])
    asked = {"reference": str(tmp_path / "atlas"), "qc": {"rna": {"min_counts": 5}}}
    found = settings.load(asked, *schemas, sheet=sheet)[0]["qc"]
    assert (found["rna"]["min_counts"], found["rna"]["max_mito_percent"]) == (5, 30)
    assert found["adt"] == config["qc"]["adt"]


def test_fine_tuning_aligns_pairs_that_it_has_not_seen(reference, slices, mapped):
    tuned = reference.map({key: own for key, own in slices.items() if key[0] in NEW}, fine_tune=True)
    spots = tuned.embedding.obs_names[~tuned.embedding.obs["tuned"] & (tuned.embedding.obs["slice"] == "s4")]
    one, other = (part[spots].obsm["X_latent"] for part in mapped.embedding.mod.values())
    before, after = foscttm(one, other), tuned.domains.slices.set_index("slice").loc["s4", "foscttm"]
    assert after < before
    ilisi = [found.domains.slices.set_index("slice").loc["s4", "ilisi"] for found in (mapped, tuned)]
    assert ilisi[1] > ilisi[0]
    # Domains are of features and tissue; a slice with one modality is what it was.
    np.testing.assert_array_equal(tuned.domains.table["domain"], mapped.domains.table["domain"])
    alone = (tuned.embedding.obs["slice"] == "s5").to_numpy()
    np.testing.assert_array_equal(tuned.embedding.obsm["X_latent"][alone], mapped.embedding.obsm["X_latent"][alone])


def test_imputed_counts_follow_those_that_were_hidden(reference, slices):
    hidden = slices["s4", "adt"]
    found = reference.map({("s4", "rna"): slices["s4", "rna"]}).imputed("s4", "adt")
    measured = hidden[found.obs["barcode"].to_numpy(), found.var_names].X.toarray()
    imputed = found.layers["imputed"].toarray()
    scores = [np.corrcoef(*pair)[0, 1] for pair in zip(np.log1p(measured.T), np.log1p(imputed.T), strict=True)]
    assert np.mean(np.sort(scores)[-9:]) > 0.4  # the markers of the domains


def test_what_is_mapped_beside_a_slice_changes_nothing_for_it(reference, slices, mapped):
    alone = reference.map({("s5", "rna"): slices["s5", "rna"]})
    together = mapped.domains.table
    table = alone.domains.table
    np.testing.assert_array_equal(table["domain"], together.loc[table.index, "domain"])
    np.testing.assert_allclose(table["distance"], together.loc[table.index, "distance"], rtol=1e-5)
    np.testing.assert_allclose(table["probability"], together.loc[table.index, "probability"], rtol=1e-5)
    spots = alone.embedding.obs_names
    np.testing.assert_allclose(
        alone.embedding.obsm["X_latent"], mapped.embedding[spots].obsm["X_latent"], rtol=1e-4, atol=1e-6
    )


def test_features_of_other_names_are_found_by_their_identifiers(reference, slices, mapped):
    """Symbols of another annotation for half of the genes, and a slice named by identifiers with their versions."""
    other, bare = slices["s4", "rna"].copy(), slices["s5", "rna"].copy()
    other.var_names = [f"old-{name}" if number % 2 else name for number, name in enumerate(other.var_names)]
    bare.var_names = [f"{identifier}.{number}" for number, identifier in enumerate(bare.var.pop("gene_ids"))]
    new = {("s4", "rna"): other, ("s4", "adt"): slices["s4", "adt"], ("s5", "rna"): bare}
    found = reference.map(new)
    told = found.domains.slices.set_index("slice")
    assert told.loc["s4", "by_id"] == pytest.approx(0.5, abs=0.02)
    assert told.loc["s5", "by_id"] == 1
    assert (mapped.domains.slices["by_id"] == 0).all()
    assert (told["found"] == 1).all()
    np.testing.assert_array_equal(found.domains.table, mapped.domains.table)
    np.testing.assert_array_equal(
        found.imputed("s5", "adt").layers["imputed"].toarray(), mapped.imputed("s5", "adt").layers["imputed"].toarray()
    )
    # Other genes, whatever they are called.
    wrong = slices["s5", "rna"].copy()
    wrong.var_names = [f"x{name}" for name in wrong.var_names]
    wrong.var["gene_ids"] = [f"ENSG9{number:010d}" for number in range(wrong.n_vars)]
    with pytest.raises(InputError, match="s5, rna: has 0 of the 120 features of the reference"):
        reference.map({("s5", "rna"): wrong})


@pytest.mark.parametrize("name", ["atlas", "atlas.zip"])
def test_written_and_read_it_is_the_same(reference, slices, mapped, tmp_path, name):
    reference.save(tmp_path / name)
    again = Reference.load(tmp_path / name).map({key: own for key, own in slices.items() if key[0] in NEW})
    np.testing.assert_array_equal(again.domains.table, mapped.domains.table)
    np.testing.assert_array_equal(
        again.imputed("s5", "adt").layers["imputed"].toarray(), mapped.imputed("s5", "adt").layers["imputed"].toarray()
    )


def test_another_tissue_is_far(reference):
    """The same features and technology, but other ones are high in other places."""
    other = copy.deepcopy(DESIGN)
    for own in other["modalities"].values():
        own["markers"] = max(own["markers"] - 1, 2)
    made = simulate_mosaic(other, seed=77)
    for adata in made.values():
        # Each gene has the counts of another.
        adata.X = adata.X[:, np.random.default_rng(5).permutation(adata.n_vars)]
        adata.layers["counts"] = adata.X.copy()
    found = reference.map({("x", "rna"): made["s4", "rna"]}).domains
    assert found.slices["near"].item() < 0.5
    assert (found.table["domain"] == UNASSIGNED).mean() > 0.5
    assert (found.confidence.loc[found.table["domain"] == UNASSIGNED, "confidence"] == 0).all()


def test_faults_are_told(reference, slices, mapped, tmp_path):
    with pytest.raises(InputError, match="the reference has no atac"):
        reference.map({("s4", "atac"): slices["s4", "rna"]})
    with pytest.raises(InputError, match="slice s1: is a slice of the reference, too"):
        reference.map({("s1", "rna"): slices["s1", "rna"]})
    with pytest.raises(InputError, match="adt in slice s4 can't be imputed"):
        mapped.imputed("s4", "adt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is there, and has other files: mine\.txt"):
        reference.save(tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").exists()


def test_donors_are_spots_with_two_modalities():
    sheet = {"s1": ["rna", "adt"], "s2": ["rna"]}
    assert donors_of(sheet, "matching") == [("s1", "rna"), ("s1", "adt")]
    assert donors_of(sheet, "nearest") == [("s1", "rna"), ("s1", "adt"), ("s2", "rna")]
    assert donors_of({"s2": ["rna"]}, "matching") == [("s2", "rna")]
