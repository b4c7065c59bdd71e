"""The simulator: what it promises of the demo, and its statistics against textbook formulas."""

import copy
import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import radius_neighbors_graph

from mosaic.errors import InputError
from mosaic.simulate.counts import expected_profiles, simulate_mosaic
from mosaic.simulate.design import check_design, read_design
from mosaic.simulate.tissue import _labyrinth, hexagonal_grid

DEMO = Path(__file__).parents[3] / "resources" / "demo.yaml"
SEED = 1234


@pytest.fixture(scope="module")
def design() -> dict:
    return read_design(DEMO)


@pytest.fixture(scope="module")
def demo(design) -> dict[tuple[str, str], ad.AnnData]:
    return simulate_mosaic(design, SEED)


def small_design() -> dict:
    """Three domains on a small grid: pure spots, Poisson counts, no slice effects, no bad spots."""
    return {
        "grid": {"rows": 12, "columns": 12, "pitch": 100},
        "domains": {"a": 1, "b": 1, "c": 1},
        "slices": {"s1": ["rna", "adt"], "s2": ["rna"]},
        "modalities": {
            "rna": {"kind": "rna", "n_features": 30, "depth": 500, "markers": 4, "marker_fold": 4.0},
            "adt": {"kind": "protein", "n_features": 10, "depth": 800, "markers": {"a": ["CD3"]}, "marker_fold": 3.0},
        },
    }


def one_domain(**rna) -> dict:
    """Spots that are all alike, so that counts of a feature are draws from one distribution."""
    spec = {"kind": "rna", "n_features": 40, "depth": 200, "abundance_log_sd": 1.0, "markers": 0, "marker_fold": 1.0}
    return {
        "grid": {"rows": 100, "columns": 100, "pitch": 1},
        "domains": {"a": 1},
        "slices": {"s1": ["rna"]},
        "modalities": {"rna": spec | rna},
    }


def epigenome_design() -> dict:
    return {
        "grid": {"rows": 20, "columns": 20, "pitch": 100},
        "domains": {"a": 1, "b": 1, "c": 1},
        "slices": {"s1": ["rna", "atac", "h3k27ac"], "s2": ["atac"], "s3": ["h3k27ac"], "s4": ["rna"]},
        "modalities": {
            "rna": {"kind": "rna", "n_features": 30, "depth": 500, "markers": 4, "marker_fold": 4.0},
            "atac": {
                "kind": "epigenome",
                "n_features": 4000,
                "depth": 80,
                "depth_log_sd": 0.2,
                "abundance_log_sd": 0.3,
                "dispersion": 0.1,
                "markers": 200,
                "marker_fold": 4.0,
            },
            "h3k27ac": {"kind": "epigenome", "n_features": 2000, "depth": 50, "markers": 100, "marker_fold": 4.0},
        },
    }


def same(one: ad.AnnData, other: ad.AnnData) -> bool:
    return (
        np.array_equal(one.X.toarray(), other.X.toarray())
        and one.obs.equals(other.obs)
        and one.var_names.equals(other.var_names)
        and np.array_equal(one.obsm["spatial"], other.obsm["spatial"])
    )


def tissue(adata: ad.AnnData) -> ad.AnnData:
    return adata[adata.obs["in_tissue"] == 1]


def totals(adata: ad.AnnData) -> np.ndarray:
    return np.asarray(adata.X.sum(axis=1)).ravel()


def mito_share(adata: ad.AnnData) -> np.ndarray:
    return totals(adata[:, adata.var_names.str.startswith("MT-")]) / np.maximum(totals(adata), 1)


# --- the files ----------------------------------------------------------------------------------------------------


def test_demo_holds_what_is_promised(demo):
    assert list(demo) == [("s1", "rna"), ("s1", "adt"), ("s2", "rna"), ("s3", "adt")]
    for (_, modality), adata in demo.items():
        assert adata.n_vars == {"rna": 300, "adt": 40}[modality]
        assert 1150 <= adata.obs["in_tissue"].sum() <= 1250
        assert tissue(adata).obs["domain"].nunique() == 5
    assert demo["s1", "rna"].var_names.str.startswith("MT-").sum() == 10
    assert {"GENE001", "MS4A1", "ACTB"} <= set(demo["s1", "rna"].var_names)
    assert not set(demo["s1", "rna"].var_names) & set(demo["s1", "adt"].var_names)


def test_files_are_as_a_user_has_them(demo, tmp_path):
    for adata in demo.values():
        assert isinstance(adata.X, sparse.csr_matrix)
        assert adata.X.dtype == np.float32
        assert (adata.X.data == np.rint(adata.X.data)).all()
        assert adata.X.data.min() >= 1
        assert not adata.layers
        assert list(adata.obs) == ["in_tissue", "domain"]
        assert set(adata.obs["in_tissue"]) == {0, 1}
        assert (adata.obs["domain"].isna() == (adata.obs["in_tissue"] == 0)).all()
        assert adata.obs_names.is_unique
        assert adata.var_names.is_unique
        assert adata.obs_names.str.fullmatch("[ACGT]{16}-1").all()
    demo["s1", "adt"].write_h5ad(tmp_path / "s1.adt.h5ad")
    assert same(ad.read_h5ad(tmp_path / "s1.adt.h5ad"), demo["s1", "adt"])


def test_grid_is_hexagonal_in_pixels(demo):
    coordinates = demo["s2", "rna"].obsm["spatial"]
    assert np.array_equal(coordinates, np.rint(coordinates))
    neighbours = np.asarray(radius_neighbors_graph(coordinates, 137 * 1.1).sum(axis=1)).ravel()
    assert np.bincount(neighbours.astype(int)).argmax() == 6
    assert neighbours.max() == 6


def test_barcodes_repeat_between_slices_and_pair_modalities(demo):
    rna, adt, other = demo["s1", "rna"], demo["s1", "adt"], demo["s2", "rna"]
    assert len(rna.obs_names.intersection(other.obs_names)) > 0.99 * rna.n_obs
    both = rna.obs_names.intersection(adt.obs_names)
    assert len(both) == 40 * 38 - 3  # one lost in RNA, two in protein
    assert rna.n_obs == 40 * 38 - 1
    assert adt.n_obs == 40 * 38 - 2
    assert list(rna.obs_names) == sorted(rna.obs_names)
    in_common_order = adt.obs_names[adt.obs_names.isin(both)]
    assert (in_common_order == both).mean() < 0.05  # pairing by row would be wrong nearly everywhere
    assert rna[both].obs.equals(adt[both].obs)
    assert np.array_equal(rna[both].obsm["spatial"], adt[both].obsm["spatial"])


# --- randomness ---------------------------------------------------------------------------------------------------


def test_same_seed_same_bits(design, demo):
    again = simulate_mosaic(design, SEED)
    assert all(same(demo[key], again[key]) for key in demo)
    assert not np.array_equal(demo["s2", "rna"].X.toarray(), simulate_mosaic(design, 1)["s2", "rna"].X.toarray())


def test_slices_and_modalities_do_not_touch_each_other():
    design = small_design()
    before = simulate_mosaic(design, 0)
    design["modalities"] = {"peaks": epigenome_design()["modalities"]["atac"], **design["modalities"]}
    design["slices"] = {"s0": ["peaks", "rna"], "s2": ["peaks", "rna"], "s1": ["adt", "rna"]}
    after = simulate_mosaic(design, 0)
    assert all(same(before[key], after[key]) for key in before)
    assert not same(before["s1", "rna"], before["s2", "rna"])


# --- counts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dispersion", [0.0, 0.5])
def test_counts_have_the_mean_and_variance_of_a_negative_binomial(dispersion):
    design = one_domain(dispersion=dispersion)
    counts = simulate_mosaic(design, 0)["s1", "rna"].X.toarray()
    mean = 200 * expected_profiles(design, 0)["s1", "rna"].loc["a"].to_numpy()
    variance = mean + dispersion * mean**2
    # 10,000 spots a feature: the standard error of a mean is its standard deviation / 100
    assert (np.abs(counts.mean(axis=0) - mean) < 4.5 * np.sqrt(variance) / 100).all()
    assert counts.var(axis=0) == pytest.approx(variance, rel=0.15)


def test_dropout_adds_zeros_by_its_formula():
    design = one_domain(dispersion=0.5, dropout={"midpoint": 2.0, "slope": 1.5})
    counts = simulate_mosaic(design, 0)["s1", "rna"].X.toarray()
    mean = 200 * expected_profiles(design, 0)["s1", "rna"].loc["a"].to_numpy()
    drawn_zero = stats.nbinom.pmf(0, 2, 2 / (2 + mean))  # size 1 / 0.5
    lost = 1 / (1 + (mean / 2.0) ** 1.5)
    zero = drawn_zero + (1 - drawn_zero) * lost
    assert (counts == 0).mean(axis=0) == pytest.approx(zero, abs=0.02)


def test_depth_varies_log_normally():
    counts = totals(simulate_mosaic(one_domain(depth=20_000, depth_log_sd=0.4), 0)["s1", "rna"])
    assert np.median(counts) == pytest.approx(20_000, rel=0.02)
    assert np.log(counts).std() == pytest.approx(0.4, rel=0.05)


def test_every_row_has_the_profile_of_its_domain_however_it_is_chunked(monkeypatch):
    monkeypatch.setattr("mosaic.simulate.counts.VALUES_PER_CHUNK", 30 * 7)  # seven spots a chunk, the last one shorter
    design = small_design()
    for spec in design["modalities"].values():
        spec["depth"] = 1_000_000
        spec["shuffled"] = True
    profiles = expected_profiles(design, 0)
    for key, adata in simulate_mosaic(design, 0).items():
        assert adata.n_obs == 144
        expected = profiles[key].loc[adata.obs["domain"], adata.var_names].to_numpy()
        assert adata.X.toarray() / 1e6 == pytest.approx(expected, rel=0.05)


def test_demo_is_as_deep_and_as_sparse_as_real_data(demo):
    for key, adata in demo.items():
        adata = tissue(adata)
        if key[1] == "rna":
            generated = adata[:, adata.var_names.str.startswith("GENE")]
            assert 0.5 < 1 - generated.X.nnz / np.prod(generated.shape) < 0.8
            assert 400 < np.median(totals(adata)) < 3000
        else:
            assert 2000 < np.median(totals(adata)) < 6000


def test_bad_spots_are_there_to_be_found(demo):
    low = {}
    for key, adata in demo.items():
        counts, in_tissue = totals(adata), adata.obs["in_tissue"] == 1
        typical = np.median(counts[in_tissue])
        low[key] = set(adata.obs_names[in_tissue & (counts < 0.06 * typical)])
        assert len(low[key]) == 8
        ambient = np.median(counts[~in_tissue]) / typical
        if key[1] == "adt":
            assert ambient == pytest.approx(0.05, rel=0.2)
        else:  # dropout takes more where there is little
            assert 0.01 < ambient < 0.05
    assert low["s1", "rna"] == low["s1", "adt"]
    for slice_name in ("s1", "s2"):
        adata = tissue(demo[slice_name, "rna"])
        adata = adata[~adata.obs_names.isin(low[slice_name, "rna"])]
        dying = mito_share(adata) > 0.3
        assert dying.sum() == 8
        assert np.median(mito_share(adata)[dying]) == pytest.approx(0.55, abs=0.1)
        assert np.median(mito_share(adata)[~dying]) == pytest.approx(0.08, abs=0.02)


# --- profiles -----------------------------------------------------------------------------------------------------


def test_hidden_domains_have_the_profile_of_their_look_alike(design):
    for (_, modality), profile in expected_profiles(design, SEED).items():
        (hidden, twin), *others = design["modalities"][modality]["looks_like"].items()
        assert not others
        assert (profile.loc[hidden] == profile.loc[twin]).all()
        assert len(profile.drop_duplicates()) == 4  # every other domain is to be seen
    assert design["modalities"]["rna"]["looks_like"].keys() != design["modalities"]["adt"]["looks_like"].keys()


def test_profiles_are_shares_with_the_mitochondrial_share_of_the_design(design):
    for (_, modality), profile in expected_profiles(design, SEED).items():
        assert profile.sum(axis=1).to_numpy() == pytest.approx(1)
        mito = profile.loc[:, profile.columns.str.startswith("MT-")].sum(axis=1).to_numpy()
        assert mito == pytest.approx(0.08 if modality == "rna" else 0)


def test_markers_rise_by_their_fold_in_their_domain_only():
    design = small_design()
    rna = expected_profiles(design, 0)["s1", "rna"]
    relative = rna.div(rna.min(axis=1), axis=0)  # to the unmarked features, which are all alike here
    assert (np.isclose(relative, 4).sum(axis=1) == 4).all()
    assert (np.isclose(relative, 4).sum(axis=0) <= 1).all()
    adt = expected_profiles(design, 0)["s1", "adt"]
    assert adt.loc["a", "CD3"] / adt.loc["a", "PROTEIN001"] == pytest.approx(3)
    assert adt.loc["b", "CD3"] / adt.loc["b", "PROTEIN001"] == pytest.approx(1)


def test_slice_effects_are_the_factors_between_slices():
    effect = {"depth_log_sd": 0.0, "feature_log_sd": 0.3}
    design = one_domain(n_features=3000, slice_effect=effect)
    design["slices"]["s2"] = ["rna"]
    profiles = expected_profiles(design, 0)
    ratio = np.log(profiles["s1", "rna"].loc["a"] / profiles["s2", "rna"].loc["a"])
    assert ratio.std() == pytest.approx(0.3 * np.sqrt(2), rel=0.05)  # the difference of two independent factors


# --- domains ------------------------------------------------------------------------------------------------------


def test_domains_are_patches_of_a_decent_size(design, demo):
    for adata in demo.values():
        adata = tissue(adata)
        near = radius_neighbors_graph(adata.obsm["spatial"], 137 * 1.1)
        for domain, patches in design["domains"].items():
            here = (adata.obs["domain"] == domain).to_numpy()
            assert here.mean() >= 0.05
            sizes = np.bincount(connected_components(near[here][:, here])[1])
            # a lost spot may cut one or two spots off
            assert (sizes > 3).sum() <= patches


def test_slices_have_the_composition_that_the_design_gives_them(design):
    composition = {"s2": {"medulla": 0, "follicle": 5}, "s3": {"follicle": 36}}
    made = simulate_mosaic(design | {"composition": composition}, SEED)
    for key in (("s2", "rna"), ("s3", "adt")):
        own = composition[key[0]]
        expected = pd.Series({domain: own.get(domain, 1) for domain in design["domains"]})
        found = tissue(made[key]).obs["domain"].value_counts(normalize=True).reindex(expected.index, fill_value=0)
        np.testing.assert_allclose(found, expected / expected.sum(), atol=0.02)
    # No spot holds cells of a domain that is absent: what only its cells express stays low.
    plasma = {name: made[name, "rna"][:, ["JCHAIN", "MZB1", "SDC1"]] for name in ("s1", "s2")}
    share = {name: totals(own).sum() / totals(made[name, "rna"]).sum() for name, own in plasma.items()}
    assert share["s2"] < 0.6 * share["s1"]


def test_other_slices_stay_as_they_are_beside_a_composition(design, demo):
    made = simulate_mosaic(design | {"composition": {"s2": {"medulla": 0}}}, SEED)
    assert same(made["s1", "rna"], demo["s1", "rna"])
    assert not same(made["s2", "rna"], demo["s2", "rna"])


STRUCTURES = {
    "cords": {"medulla": {"within": "interfollicular", "width": 2.5}},
    "islands": {"germinal_centre": {"n": 5, "spots": [5, 20]}},
    "strays": {"paracortex": 12},
}


@pytest.fixture(scope="module")
def structured(design) -> dict[tuple[str, str], ad.AnnData]:
    domains = design["domains"] | {"germinal_centre": 0}
    without_cords = {"s3": {"medulla": 0}}
    return simulate_mosaic(design | {"domains": domains, "structures": STRUCTURES, "composition": without_cords}, SEED)


def pieces(adata: ad.AnnData, domain: str) -> np.ndarray:
    """Sizes of the connected parts of a domain, on the whole grid of the slice."""
    here = (adata.obs["domain"] == domain).to_numpy()
    return np.bincount(connected_components(radius_neighbors_graph(adata.obsm["spatial"][here], 137 * 1.1))[1])


def test_islands_and_strays_are_as_many_and_as_large_as_the_design_says(structured):
    islands = [pieces(structured["s1", name], "germinal_centre") for name in ("rna", "adt")]
    # Of 5 islands in each slice, a lost spot may be missing.
    assert all(len(sizes) == 5 and sizes.min() >= 4 and sizes.max() <= 20 for sizes in islands)
    assert len(set(islands[0])) > 1
    assert (pieces(structured["s2", "rna"], "paracortex") == 1).sum() >= 12 - 1
    assert sorted(pieces(structured["s2", "rna"], "paracortex"))[-1] > 50  # its patch


def test_cords_interlace_with_half_of_a_domain(design, structured):
    """Where cords are, about half the neighbours are of the other domain; without them, only those at a border."""

    def foreign(adata):
        adata = adata[adata.obs["domain"].isin(["medulla", "interfollicular"])]
        near = radius_neighbors_graph(adata.obsm["spatial"], 137 * 1.1).tocoo()
        cords = (adata.obs["domain"] == "medulla").to_numpy()
        within = ~cords[near.row]
        return cords[near.col][within].mean()

    plain = simulate_mosaic(design | {"composition": {"s3": {"medulla": 0}}}, SEED)
    assert foreign(structured["s2", "rna"]) > 0.25
    assert foreign(plain["s2", "rna"]) < 0.15
    shares = [made["s2", "rna"].obs["domain"].eq("interfollicular").sum() for made in (structured, plain)]
    assert structured["s3", "adt"].obs["domain"].ne("medulla").all()  # absent, so no cords of it
    assert structured["s3", "adt"].obs["domain"].eq("germinal_centre").any()
    assert shares[0] > 30


@pytest.mark.parametrize("width", [2.0, 4.0])
def test_cords_are_as_wide_as_the_design_says(width):
    spots = hexagonal_grid({"rows": 120, "columns": 120})
    rows = np.sign(_labyrinth(spots, width, np.random.default_rng(0))).reshape(120, 120)
    changes = (rows[:, 1:] != rows[:, :-1]).mean()
    assert 1 / changes == pytest.approx(width, rel=0.15)
    assert (rows > 0).mean() == pytest.approx(0.5, abs=0.05)


def test_a_domain_without_patches_is_where_its_structures_are_alone():
    """Neither in patches nor, as stray cells, in the spots of other domains; its profile is its own."""
    design = small_design() | {"mixing": {"share": 0.4, "concentration": 50}}
    design["domains"] = {"a": 1, "b": 1, "c": 0}
    design["structures"] = {"strays": {"c": 6}}
    design["modalities"]["rna"]["depth"] = 100_000
    rna = simulate_mosaic(design, 0)["s2", "rna"]
    is_c = (rna.obs["domain"] == "c").to_numpy()
    assert is_c.sum() == 6
    profiles = expected_profiles(design, 0)["s2", "rna"]
    own = (profiles.loc["c"] > 2 * profiles.loc["a"]) & (profiles.loc["c"] > 2 * profiles.loc["b"])
    share = np.asarray(rna[:, own.to_numpy()].X.sum(axis=1)).ravel() / totals(rna)
    assert own.sum() == 4
    assert share[~is_c] == pytest.approx(profiles.loc["a", own].sum(), rel=0.1)
    assert share[is_c].min() > 1.5 * share[~is_c].max()


def test_domains_lie_elsewhere_in_every_slice(demo):
    slices = [demo["s1", "rna"], demo["s2", "rna"], demo["s3", "adt"]]
    for one, other in zip(slices, slices[1:] + slices[:1], strict=True):
        truth = pd.concat([one.obs["domain"], other.obs["domain"]], axis=1, join="inner").dropna().astype(str)
        assert adjusted_rand_score(truth.iloc[:, 0], truth.iloc[:, 1]) < 0.5


def test_tissue_is_one_piece_with_an_irregular_outline(demo):
    outlines = []
    for key in (("s1", "rna"), ("s2", "rna"), ("s3", "adt")):
        adata = tissue(demo[key])
        near = radius_neighbors_graph(adata.obsm["spatial"], 137 * 1.1)
        assert connected_components(near)[0] == 1
        outlines.append(set(adata.obs_names))
    assert len(outlines[0] ^ outlines[1]) > 50


def test_no_modality_alone_shows_what_both_show(demo):
    features, truth = {}, {}
    for key, adata in demo.items():
        adata = tissue(adata)
        adata = adata[(totals(adata) > 200) & (mito_share(adata) < 0.3)]
        shares = adata.X.toarray() / totals(adata)[:, None]
        logs = np.log1p(shares * 1e4)
        features[key] = pd.DataFrame(PCA(15, random_state=0).fit_transform(logs), index=adata.obs_names)
        truth[key] = adata.obs["domain"].astype(str)
        found = KMeans(5, n_init=20, random_state=0).fit_predict(features[key])
        assert 0.3 < adjusted_rand_score(truth[key], found) < 0.85
    both = pd.concat([features["s1", "rna"], features["s1", "adt"]], axis=1, join="inner").to_numpy()
    labels = truth["s1", "rna"][features["s1", "rna"].index.isin(features["s1", "adt"].index)]
    found = cross_val_predict(LogisticRegression(max_iter=1000), both / both.std(axis=0), labels, cv=5)
    assert adjusted_rand_score(labels, found) > 0.9


# --- epigenome ----------------------------------------------------------------------------------------------------


def test_epigenome_is_sparse_and_named_by_position():
    design = epigenome_design()
    mosaic = simulate_mosaic(design, 0)
    assert set(mosaic) == {(s, m) for s, modalities in design["slices"].items() for m in modalities}
    for (_, modality), adata in mosaic.items():
        if modality == "rna":
            continue
        assert 0.01 < adata.X.nnz / np.prod(adata.shape) < 0.05
        assert 2 <= adata.X.max() <= 4
        peaks = pd.DataFrame([re.fullmatch(r"(chr[0-9X]+)-(\d+)-(\d+)", n).groups() for n in adata.var_names])
        start, end = peaks[1].astype(int), peaks[2].astype(int)
        assert (start > 0).all()
        assert (end - start).between(300, 1000).all()
        follows = peaks[0].eq(peaks[0].shift())
        assert (start > end.shift())[follows].all()
        assert peaks[0].nunique() == 23


def test_epigenome_has_peaks_of_its_own_for_every_domain():
    design = epigenome_design()
    profile = expected_profiles(design, 0)["s1", "atac"]
    raised = profile.gt(2 * profile.median(axis=0), axis=1)  # the median of three domains is the unraised one
    assert (raised.sum(axis=1) == 200).all()
    adata = simulate_mosaic(design, 0)["s2", "atac"]
    for domain in design["domains"]:
        peaks = raised.columns[raised.loc[domain]]
        inside = adata.obs["domain"] == domain
        assert adata[inside, peaks].X.mean() > 2 * adata[~inside, peaks].X.mean()


# --- faults -------------------------------------------------------------------------------------------------------


def changed(path: str, value) -> dict:
    """The small design with one key set; the path's parts are separated by dots."""
    design = copy.deepcopy(small_design())
    *parents, last = path.split(".")
    table = design
    for parent in parents:
        table = table.setdefault(parent, {})
    table[last] = value
    return design


@pytest.mark.parametrize(
    ("path", "value", "where", "problem", "hint"),
    [
        ("grid", {"rows": 12, "columns": 12}, "grid.pitch", "is missing", "pixels of the image"),
        ("grid.rows", 2, "grid.rows", "2 is less than the minimum", "4 or more"),
        ("grid.rows", 12.0, "grid.rows", "12.0 is not a whole number", "4 or more"),
        ("grid.pitch", "1e2", "grid.pitch", "'1e2' is text, not a number", "write 100 without quotes"),
        ("modalities.rna.depth", float("nan"), "modalities.rna.depth", "nan is not a number", "median counts"),
        ("modalities.rna.kind", "atac", "modalities.rna.kind", "'atac' is not known", "one of: rna, protein, epi"),
        ("modalities.rna.deepness", 3, "modalities.rna.deepness", "unknown key", "known here: kind, n_features"),
        ("slices.s 3", ["rna"], "slices", "'s 3' is not valid", "letters, digits"),
        ("slices.s2", ["rna", "rna"], "slices.s2", "non-unique", "names of modalities"),
        ("slices.s2", ["protein"], "slices.s2", "there is no modality 'protein'", "modalities are rna, adt"),
        ("modalities.adt.markers.x", ["CD4"], "modalities.adt.markers", "no domain 'x'", "domains are a, b, c"),
        ("modalities.rna.looks_like", {"a": "x"}, "modalities.rna.looks_like", "no domain 'x'", "domains are a, b, c"),
        ("modalities.rna.looks_like", {"a": "a"}, "modalities.rna.looks_like", "itself hidden", "this modality sees"),
        ("modalities.adt.looks_like", {"a": "b"}, "modalities.adt.markers", "would do nothing", "remove the markers"),
        ("modalities.adt.background", ["CD3"], "modalities.adt", "named more than once: CD3", "either a marker"),
        ("composition", {"s9": {"a": 2}}, "composition.s9", "there is no slice 's9'", "slices are s1, s2"),
        ("composition", {"s1": {"x": 2}}, "composition.s1", "there is no domain 'x'", "domains are a, b, c"),
        ("composition", {"s1": {"a": 0, "b": 0, "c": 0}}, "composition.s1", "no domain is left", "give it a share"),
        ("composition", {"s1": {"a": -1}}, "composition.s1.a", "less than the minimum", "relative share"),
        ("domains.a", 0, "structures", "'a' has neither patches nor structures", "give it patches"),
        ("domains", {"a": 0}, "domains", "no domain has a patch", "1 or more"),
        ("structures", {"strays": {"x": 2}}, "structures.strays", "there is no domain 'x'", "domains are a, b, c"),
        ("structures", {"cords": {"a": {"within": "x", "width": 2}}}, "structures.cords", "no domain 'x'", "a, b, c"),
        ("structures", {"cords": {"a": {"within": "a", "width": 2}}}, "structures.cords", "within itself", "another"),
        ("structures", {"islands": {"a": {"n": 1, "spots": [9, 5]}}}, "structures.islands", "fewest", "[fewest, most]"),
        ("structures", {"islands": {"a": {"n": 1}}}, "structures.islands.a.spots", "is missing", "fewest and most"),
        ("modalities.rna.markers", 11, "modalities.rna", "n_features is 30, but names and markers need 33", "raise"),
        ("modalities.adt.kind", "epigenome", "modalities.adt", "peaks are generated", "as a number"),
    ],
)
def test_a_faulty_design_says_where_and_how_to_mend_it(path, value, where, problem, hint):
    with pytest.raises(InputError) as error:
        simulate_mosaic(changed(path, value), 0)
    message = str(error.value)
    assert f"design: {where}: " in message
    assert problem in message
    assert hint in message.split("Hint: ")[1]


def test_all_faults_of_a_file_are_listed_at_once(tmp_path):
    path = tmp_path / "design.yaml"
    path.write_text("grid: {rows: 12, columns: x, pitch: 1}\ndomains: {a: -1}\nslices: {s1: [rna]}\nmodalities: {}\n")
    with pytest.raises(InputError) as error:
        read_design(path)
    assert f"2 faults in {path}" in str(error.value)
    assert "grid.columns" in str(error.value)
    assert "domains.a" in str(error.value)


def test_every_missing_part_is_named_once():
    with pytest.raises(InputError, match="4 faults in design") as error:
        check_design({})
    for key in ("grid", "domains", "slices", "modalities"):
        assert str(error.value).count(f"design: {key}: is missing") == 1


def test_a_file_that_is_no_design_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"(?s)can't be read.*resources/demo.yaml"):
        read_design(tmp_path / "absent.yaml")
    path = tmp_path / "design.yaml"
    path.write_text("grid: {rows: 12\nslices: [")
    with pytest.raises(InputError, match=r"line 2, column \d+: is no YAML"):
        read_design(path)
    path.write_text("grid: {rows: 12, columns: 12, pitch: 1, rows: 13}\n")
    with pytest.raises(InputError, match=r"key grid.rows: is there already, in line 1"):
        read_design(path)
    path.write_text("")
    with pytest.raises(InputError, match=r"\(top level\): null is not a mapping"):
        read_design(path)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("domains.a", 200, "slice s1: 202 patches"),
        ("layout", {"warp": 0.0, "scale": 0.2, "min_share": 0.5}, "at least 72 spots a domain do not fit"),
        (
            "bad_spots",
            {"low_counts": {"n": 145, "depth": 0.1}},
            "slice s1: 145 bad spots asked for, 144 spots in tissue",
        ),
        ("structures", {"islands": {"a": {"n": 9, "spots": [20, 20]}}}, "slice s1: no place is left for an island"),
        ("structures", {"strays": {"b": 100}}, "slice s1: no place is left for an island or stray of b"),
        ("modalities.adt.lost_spots", 144, "slice s1, adt: 144 spots to lose, 144 good ones in tissue"),
    ],
)
def test_a_design_that_does_not_fit_on_the_grid_is_an_input_error(path, value, problem):
    with pytest.raises(InputError, match=problem) as error:
        simulate_mosaic(changed(path, value), 0)
    assert error.value.hint


def test_a_domain_without_patches_takes_no_share_of_the_tissue():
    design = small_design() | {"structures": {"strays": {"c": 3}}, "composition": {"s1": {"c": 2}}}
    design["domains"]["c"] = 0
    with pytest.raises(InputError, match=r"composition\.s1: domain 'c' has no patches"):
        simulate_mosaic(design, 0)
    design["composition"] = {"s1": {"a": 3, "c": 0}}  # absent, with its strays
    made = simulate_mosaic(design, 0)
    assert made["s1", "rna"].obs["domain"].value_counts()[["a", "b", "c"]].tolist() == pytest.approx(
        [108, 36, 0], abs=3
    )
    assert (made["s2", "rna"].obs["domain"] == "c").sum() == 3


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(InputError, match="seed"):
        simulate_mosaic(small_design(), seed)


def test_designs_are_left_as_they_were():
    design = small_design()
    simulate_mosaic(design, 0)
    assert design == small_design()
    check_design(epigenome_design())
