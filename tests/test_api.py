"""The published names: the call that SpaMosaic's users know, what its options do, and what faults say."""

import copy
import json

import anndata as ad
import numpy as np
import pytest
from chain import THREE_SLICES
from running import REPOSITORY
from sklearn.neighbors import KNeighborsClassifier

from mosaic.api import ADT_preprocess, Epigenome_preprocess, RNA_preprocess, SpaMosaic
from mosaic.errors import InputError
from mosaic.simulate.counts import simulate_mosaic


@pytest.fixture
def input_dict():
    """Three slices: RNA and ADT, RNA, RNA and ADT, as a user has them."""
    made = simulate_mosaic(THREE_SLICES, seed=3)
    slices = {}
    for modality in ("rna", "adt"):
        slices[modality] = []
        for name, measured in THREE_SLICES["slices"].items():
            adata = made[name, modality] if modality in measured else None
            if adata is not None:
                adata = ad.AnnData(adata.X.astype(np.float32), obs=adata.obs, var=adata.var, obsm=dict(adata.obsm))
                adata.layers["counts"] = adata.X.copy()
                adata.obs["src"] = name
            slices[modality].append(adata)
    return slices


@pytest.fixture
def reduced(input_dict):
    RNA_preprocess(input_dict["rna"], favor="scanpy", n_comps=12)
    ADT_preprocess(input_dict["adt"], n_comps=12)
    return input_dict


def model_of(slices, **changed):
    return SpaMosaic(slices, **{"input_key": "dimred_bc", "batch_key": "src", "device": "cpu"} | changed)


def test_a_selection_of_the_users_is_not_taken(input_dict):
    clean = {name: [adata if adata is None else adata.copy() for adata in own] for name, own in input_dict.items()}
    for own in input_dict.values():
        for adata in own:
            if adata is not None:
                adata.var["highly_variable"] = np.arange(adata.n_vars) < 3
                adata.uns |= {"log1p": {"base": 2.0}, "hvg": {"flavor": "seurat_v3"}, "pca": {"params": {}}}
                adata.obsm["X_pca"], adata.varm["PCs"] = np.ones((adata.n_obs, 2)), np.ones((adata.n_vars, 2))
    for favor in ("scanpy", "adapted"):
        for slices in (clean, input_dict):
            RNA_preprocess(slices["rna"], favor=favor, n_hvg=60, n_comps=5, key=favor)
            ADT_preprocess(slices["adt"], n_comps=5)
    for name, keys in (("rna", ("scanpy", "adapted")), ("adt", ("dimred_bc",))):
        for expected, adata in zip(clean[name], input_dict[name], strict=True):
            for key in keys if adata is not None else ():
                np.testing.assert_array_equal(adata.obsm[key], expected.obsm[key])


def test_the_published_snippet(input_dict):
    # fmt: off
    RNA_preprocess(input_dict['rna'], batch_corr=True, favor='scanpy', n_hvg=5000, batch_key='src', key='dimred_bc')
    ADT_preprocess(input_dict['adt'], batch_corr=True, batch_key='src', key='dimred_bc')
    model = SpaMosaic(modBatch_dict=input_dict, input_key='dimred_bc', batch_key='src', intra_knns=10,
                      inter_knn_base=10, w_g=0.8, seed=1234, device='cpu')
    model.train(net='wlgcn', lr=0.01, T=0.01, n_epochs=100)
    ad_embs = model.infer_emb(input_dict, emb_key='emb', final_latent_key='merged_emb')
    imputed = model.impute(input_dict, emb_key='emb', layer_key='counts', imp_knn=10)
    # fmt: on

    assert [adata.shape[0] for adata in ad_embs] == [adata.n_obs for adata in input_dict["rna"]]
    for number, merged in enumerate(ad_embs):
        parts = [slices[number] for slices in input_dict.values() if slices[number] is not None]
        assert merged.obs_names.tolist() == parts[0].obs_names.tolist()
        np.testing.assert_array_equal(merged.obsm["spatial"], parts[0].obsm["spatial"])
        expected = np.mean([part[merged.obs_names].obsm["emb"] for part in parts], axis=0)
        np.testing.assert_allclose(merged.obsm["merged_emb"], expected, rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(parts[0].obsm["emb"], axis=1), 1, rtol=1e-5)
    assert model.history["loss"].iloc[-1] < model.history["loss"].iloc[0]
    assert imputed["rna"] == [None, None, None]
    assert imputed["adt"][0] is None
    assert imputed["adt"][2] is None
    donors = np.vstack([input_dict["adt"][number].to_df("counts") for number in (0, 2)])
    assert imputed["adt"][1].shape == (input_dict["rna"][1].n_obs, 20)
    # Each value is a mean of ten counts.
    np.testing.assert_allclose(imputed["adt"][1] * 10, np.round(imputed["adt"][1] * 10), atol=1e-3)
    assert imputed["adt"][1].max() <= donors.max()
    domains = input_dict["rna"][1].obs["domain"].astype(str).to_numpy()
    profiles = {name: imputed["adt"][1][domains == name].mean(axis=0) for name in "abc"}
    truth = np.concatenate([input_dict["adt"][number].obs["domain"].astype(str) for number in (0, 2)])
    for name in "abc":
        measured = donors[truth == name].mean(axis=0)
        nearest = min("abc", key=lambda other: np.abs(np.log1p(profiles[other]) - np.log1p(measured)).mean())
        assert nearest == name


@pytest.mark.parametrize(
    ("name", "function", "modality", "options"),
    [
        ("scanpy", RNA_preprocess, "rna", {"favor": "scanpy", "n_hvg": 100, "return_hvf": True}),
        ("adapted", RNA_preprocess, "rna", {"favor": "adapted", "n_hvg": 100}),
        ("clr", ADT_preprocess, "adt", {}),
        ("lognorm", ADT_preprocess, "adt", {"favor": "lognorm", "scale": True}),
        ("peaks", Epigenome_preprocess, "rna", {"n_peak": 150}),
    ],
)
def test_features_are_the_published_ones(name, function, modality, options):
    with np.load(REPOSITORY / "tests" / "data" / "published.npz") as file:
        kept = dict(file)
    slices = []
    for key in ("s1", "s2", "s3"):
        known = f"{modality}|{key}|counts" in kept
        slices.append(ad.AnnData(kept[f"{modality}|{key}|counts"].astype(np.float32)) if known else None)
        if known:
            slices[-1].obs["src"] = key
    chosen = function(slices, n_comps=5, batch_key="src", key="made", **options)
    ours = np.vstack([adata.obsm["made"] for adata in slices if adata is not None])
    published = kept[f"preprocessing|{name}"]
    # To the sign of a component, which scanpy's PCA leaves to the processor.
    ours = ours * np.sign((ours * published).sum(axis=0))
    np.testing.assert_allclose(ours, published, atol=2e-3)
    if chosen is not None:
        assert (slices[0].var_names[chosen[1]] == chosen[0]).all()
        assert len(chosen[0]) == 100


@pytest.mark.parametrize("method", ["auto", "pair_shift"])
def test_a_correction_by_the_tissue_needs_places(input_dict, method):
    del input_dict["rna"][1].obsm["spatial"]
    with pytest.raises(InputError, match=rf"rna slice 1: batch_corr {method} needs obsm\['spatial'\]\n.*put coord"):
        RNA_preprocess(input_dict["rna"], favor="scanpy", n_comps=12, batch_corr=method)
    RNA_preprocess(input_dict["rna"], favor="scanpy", n_comps=12, batch_corr="harmony")


def test_options_reach_the_graph(reduced):
    def edges(modality="rna", kind="spatial_connectivities", **changed):
        return model_of(reduced, **changed).graphs[modality].obsp[kind]

    slices = model_of(reduced).graphs["rna"].obs["slice"].to_numpy(dtype=str)
    degree = edges(intra_knns=[4, 6, 8]).getnnz(axis=1)
    assert [set(degree[slices == name]) for name in ("s1", "s2", "s3")] == [{4}, {6}, {8}]
    assert edges(radius_cutoff=110).getnnz(axis=1).max() == 6  # of a hexagonal grid with pitch 100
    assert set(edges(radius_cutoff=None).getnnz(axis=1)) == {10}
    mutual = "mutual_nearest_neighbors"
    assert edges(kind=mutual, inter_knn_base=5).nnz < edges(kind=mutual).nnz
    assert edges(kind=mutual, rmv_outlier=True).nnz < edges(kind=mutual).nnz
    assert edges(kind=mutual, w_g=0).nnz == 0
    assert model_of(reduced, smooth_input=True).graphs["rna"].n_vars == 24
    for adata in (*reduced["rna"], reduced["adt"][0], reduced["adt"][2]):
        adata.obsm["other"] = adata.obsm["dimred_bc"][:, : 3 if adata.n_vars > 20 else None]
    assert (edges(kind=mutual, mnn_rep_key="other") != edges(kind=mutual)).nnz > 0
    assert (edges("adt", kind=mutual, mnn_rep_key="other") != edges("adt", kind=mutual)).nnz == 0
    reduced["rna"][1] = reduced["rna"][1][:60].copy()
    assert edges(kind=mutual, inter_auto_knn=True).nnz < edges(kind=mutual).nnz


def test_graph_loss_enters_with_its_share(reduced):
    losses = []
    for share in (0.0, 0.5, 1.0):
        model = model_of(reduced)
        model.train(n_epochs=1, T=0.1, w_rec_g=share)
        losses.append(model.history["reconstruction"][0])
    assert losses[1] == pytest.approx((losses[0] + losses[2]) / 2, rel=1e-5)
    assert losses[2] > 0


def test_spots_of_one_modality_alone(reduced):
    reduced["adt"][0] = reduced["adt"][0][::-1][:100].copy()
    model = model_of(reduced)
    model.train(n_epochs=3, T=0.1)
    first = model.infer_emb(reduced)[0]
    assert first.obs_names.tolist() == reduced["rna"][0].obs_names.tolist()
    alone = ~first.obs_names.isin(reduced["adt"][0].obs_names)
    np.testing.assert_allclose(first.obsm["merged_emb"][alone], reduced["rna"][0].obsm["emb"][alone], rtol=1e-6)
    with pytest.raises(InputError, match=r"cat, slice s1: some spots lack a modality\n.*set cat to False"):
        model.infer_emb(reduced, cat=True)
    matched = model.impute(reduced, method="matching", imp_knn=5)["adt"][1]
    assert matched.shape == (reduced["rna"][1].n_obs, 20)
    assert (matched >= 0).all()


def test_side_by_side(reduced):
    model = model_of(reduced)
    model.train(n_epochs=2, T=0.1)
    widths = [adata.obsm["merged_emb"].shape[1] for adata in model.infer_emb(reduced, cat=True)]
    assert widths == [64, 32, 64]


def replaced(modality, number, value):
    return lambda slices: slices[modality].__setitem__(number, value)


def changed(modality, number, part, key, value=None):
    """Set a key of ``obs`` or ``obsm`` of one slice, to what ``value`` makes of the slice, or take it out."""

    def change(slices):
        adata = slices[modality][number]
        if value is None:
            del getattr(adata, part)[key]
        else:
            getattr(adata, part)[key] = value(adata)

    return change


def renamed(modality, number, names):
    return lambda slices: setattr(slices[modality][number], "obs_names", names(slices[modality][number].n_obs))


def hole(adata):
    features = adata.obsm["dimred_bc"].copy()
    features[0, 0] = np.nan
    return features


def copies(slices):
    """Copies with features of their own, as another preprocessing of the same counts would give."""
    slices = [adata.copy() for adata in slices]
    for adata in slices:
        adata.obsm["dimred_bc"] = adata.obsm["dimred_bc"] + 1
    return slices


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda slices: slices["rna"].pop(), {}, "lists differ in length: rna has 2, adt has 3"),
        (replaced("rna", 1, None), {}, "entry 1: no modality has this slice"),
        (replaced("rna", 1, "s2.h5ad"), {}, "rna is str, not AnnData"),
        (changed("rna", 1, "obsm", "dimred_bc"), {}, r"obsm\['dimred_bc'\] is missing \(obsm has spatial\)"),
        (changed("rna", 1, "obsm", "spatial"), {}, r"obsm\['spatial'\] is missing"),
        (lambda slices: None, {"batch_key": "batch"}, r"rna has no obs\['batch'\]"),
        (changed("rna", 1, "obs", "src", lambda adata: "s1"), {}, "two slices are named 's1'"),
        (changed("rna", 1, "obs", "src", lambda adata: list("ab") * (adata.n_obs // 2)), {}, "names 2 slices"),
        (lambda slices: None, {"intra_knns": [10, 10]}, "intra_knns: has 2 values for 3 slices"),
        (lambda slices: None, {"radius_cutoff": 10}, "leaves .* spots without a spatial neighbour"),
        (changed("adt", 0, "obsm", "dimred_bc", hole), {}, "holds NaN or infinite"),
        (changed("adt", 0, "obsm", "dimred_bc", lambda adata: adata.obsm["dimred_bc"][:, :5]), {}, "differs in width"),
        (renamed("adt", 0, lambda n: [f"x{number}" for number in range(n)]), {}, "share 0 of 144 barcodes"),
        (renamed("adt", 0, lambda n: ["x"] * n), {}, "obs_names of adt are not unique"),
        (changed("adt", 0, "obsm", "spatial", lambda adata: adata.obsm["spatial"] * 10), {}, "unit, 10 times as large"),
        (lambda slices: slices["adt"].reverse(), {}, r"\['adt'\]\[0\]: is slice 's3' .* entry 2 of the lists"),
        (lambda slices: slices.update(adt=slices["rna"]), {}, "rna of s1 and adt of s1 are the same data"),
        (lambda slices: slices.update(adt=copies(slices["rna"])), {}, "rna of s1 and adt of s1 are the same data"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_slices_that_do_not_fit(reduced, change, options, message):
    change(reduced)
    with pytest.raises(InputError, match=message) as caught:
        model_of(reduced, **options).train(n_epochs=1)
    assert "Hint:" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, m: RNA_preprocess(d["rna"], favor="seurat"), "favor: 'seurat' is not known"),
        (lambda d, m: RNA_preprocess([None, None]), "rna slices: no slice was given"),
        (lambda d, m: SpaMosaic([], batch_key="src"), "list instead of a dict of lists"),
        (lambda d, m: m.train(net="hgt"), "net: 'hgt' is not known"),
        (lambda d, m: m.train(loss_type="ce"), "loss_type: 'ce' is not known"),
        (lambda d, m: m.infer_emb(d), "infer_emb: the model is not trained"),
        (lambda d, m: m.impute(d), r"obsm\['emb'\] is missing"),
        (lambda d, m: m.impute(d, emb_key="dimred_bc", layer_key="raw"), r"layers\['raw'\] is missing"),
        (lambda d, m: m.impute(d, method="magic"), "method: 'magic' is not known"),
        (lambda d, m: m.impute({"rna": d["rna"][::-1], "adt": d["adt"]}), "entry 2 of the lists is that slice"),
        (lambda d, m: m.impute({name: list(reversed(own)) for name, own in d.items()}), "spots of rna are not those"),
    ],
)
def test_calls_that_make_no_sense(reduced, call, message):
    model = model_of(reduced)
    with pytest.raises(InputError, match=message) as caught:
        call(reduced, model)
    assert "Hint:" in str(caught.value)


@pytest.mark.parametrize("repeated", [True, False])
def test_a_list_in_another_order_is_told_by_barcodes_and_places(reduced, repeated):
    """Slices may be named modality by modality, so that the names don't tell; nor do barcodes, if they repeat."""
    for modality, adatas in reduced.items():
        for adata in filter(None, adatas):
            adata.obs["src"] = f"{adata.obs['src'].iloc[0]}-{modality}"
            if repeated:
                adata.obs_names = [f"spot{number}" for number in range(adata.n_obs)]
    for adata in (reduced["rna"][2], reduced["adt"][2]):
        adata.obsm["spatial"] = adata.obsm["spatial"] + 700
    model_of(reduced)
    reduced["adt"].reverse()
    with pytest.raises(InputError, match="2 faults in modBatch_dict") as caught:
        model_of(reduced)
    assert "files of s1-rna and s3-rna look exchanged: check the sheet, or the order of the lists" in str(caught.value)


def test_slices_that_spell_their_features_otherwise_are_refused(input_dict):
    adata = input_dict["rna"][1]
    adata.var_names = [name if number < 6 else f"ENSG{number}" for number, name in enumerate(adata.var_names)]
    with pytest.raises(InputError, match="share 6 of 120 features"):
        RNA_preprocess(input_dict["rna"], favor="scanpy", batch_key="src")


# A model of s1 to s3; s4 and s5 are new.
FIVE_SLICES = copy.deepcopy(THREE_SLICES)
FIVE_SLICES["slices"] |= {"s4": ["rna"], "s5": ["rna", "adt"]}


@pytest.fixture(scope="module")
def five_slices():
    made = simulate_mosaic(FIVE_SLICES, seed=3)
    slices = {"rna": [], "adt": []}
    for (name, modality), adata in made.items():
        adata.layers["counts"] = adata.X.copy()
        adata.obs["src"] = name
        assert modality in slices
    for modality, own in slices.items():
        own += [made.get((name, modality)) for name in FIVE_SLICES["slices"]]
    RNA_preprocess(slices["rna"], favor="scanpy", n_comps=12)
    ADT_preprocess(slices["adt"], n_comps=12)
    return slices


def some(slices, *numbers):
    return {
        name: [own[number].copy() if own[number] is not None else None for number in numbers]
        for name, own in slices.items()
    }


@pytest.fixture(scope="module")
def trained(five_slices):
    model = model_of(some(five_slices, 0, 1, 2), intra_knns=[6, 8, 10])
    model.train(n_epochs=60, T=0.1)
    return model


def results(model, slices, **options):
    """Latent coordinates of all spots, and what is imputed."""
    merged = model.infer_emb(slices)
    latent = [np.vstack([a.obsm["emb"] for a in own if a is not None]) for own in slices.values() if any(own)]
    imputed = model.impute(slices, imp_knn=5, **options)
    arrays = [array for own in imputed.values() for array in own if array is not None]
    return [adata.obsm["merged_emb"] for adata in merged] + latent + arrays


@pytest.mark.parametrize(("name", "method"), [("model", "nearest"), ("model.zip", "matching")])
def test_a_model_that_was_saved_is_the_same_to_the_bit(trained, five_slices, tmp_path, name, method):
    trained.save(tmp_path / name)
    again = SpaMosaic.load(tmp_path / name, device="cpu")
    for numbers in ((0, 1, 2), (3, 4)):
        expected = results(trained, some(five_slices, *numbers), method=method)
        for one, other in zip(results(again, some(five_slices, *numbers), method=method), expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert again.history.equals(trained.history)
    # It can be trained on, and saved again over itself.
    again.save(tmp_path / name)
    again.train(n_epochs=60, T=0.1)
    for one, other in zip(again.encoders["rna"].parameters(), trained.encoders["rna"].parameters(), strict=True):
        np.testing.assert_array_equal(one.detach(), other.detach())


def test_new_slices_lie_by_their_domains(trained, five_slices):
    known, new = some(five_slices, 0, 1, 2), some(five_slices, 3, 4)
    merged, ours = trained.infer_emb(known), trained.infer_emb(new)
    domains = np.concatenate([adata.obs["domain"].astype(str) for adata in merged])
    model = KNeighborsClassifier(15).fit(np.vstack([adata.obsm["merged_emb"] for adata in merged]), domains)
    for adata in ours:
        assert (model.predict(adata.obsm["merged_emb"]) == adata.obs["domain"].astype(str)).mean() > 0.8
    # Alone or beside another, a slice is embedded alike.
    alone = trained.infer_emb({"rna": [new["rna"][0].copy()]})[0]
    np.testing.assert_allclose(alone.obsm["merged_emb"], ours[0].obsm["merged_emb"], atol=1e-5)
    imputed = trained.impute(new)
    assert imputed["rna"] == [None, None]
    assert imputed["adt"][1] is None
    hidden = {"rna": [new["rna"][1]]}
    found, measured = trained.impute(hidden)["adt"][0], new["adt"][1].to_df("counts").to_numpy()
    scores = [np.corrcoef(*pair)[0, 1] for pair in zip(np.log1p(measured.T), np.log1p(found.T), strict=True)]
    assert np.mean(np.sort(scores)[-9:]) > 0.4  # the markers of the domains


def test_the_graph_of_new_slices_is_made_as_in_training(five_slices, tmp_path):
    known, new = some(five_slices, 0, 1, 2), some(five_slices, 3, 4)
    for part in (known, new):
        for own in part.values():
            for adata in filter(lambda each: each is not None, own):
                adata.obsm["other"] = adata.obsm["dimred_bc"][:, :6]
    options = {"smooth_input": True, "mnn_rep_key": "other", "radius_cutoff": 110, "inter_knn_base": 4}
    model = model_of(known, **options)
    model.train(n_epochs=2, T=0.1)
    model.save(tmp_path / "model")
    again = SpaMosaic.load(tmp_path / "model")
    graph = again._linked("rna", again._parts(new, ["s4", "s5"])["rna"])
    own, trained_on = graph[~graph.obs["new"].to_numpy()], model.graphs["rna"]
    np.testing.assert_array_equal(own.X, trained_on.X)
    spatial, mutual = "spatial_connectivities", "mutual_nearest_neighbors"
    assert (own.obsp[spatial] != trained_on.obsp[spatial]).nnz == 0
    assert graph.obsp[spatial].getnnz(axis=1).max() == 6  # of a hexagonal grid with pitch 100
    first, last = (np.flatnonzero(graph.obs["slice"] == name) for name in ("s1", "s4"))
    links = graph.obsp[mutual][first][:, last]
    for key, same in (("other", True), ("dimred_bc", False)):
        pair = model_of({"rna": [known["rna"][0], new["rna"][0]]}, **options | {"mnn_rep_key": key})
        assert ((links != pair.graphs["rna"].obsp[mutual][: len(first), len(first) :]).nnz == 0) is same


def test_a_model_leaves_out_counts_that_must_not_leave(trained, five_slices, tmp_path):
    trained.save(tmp_path / "model", layer_key=None)
    assert not list((tmp_path / "model").glob("counts*"))
    again = SpaMosaic.load(tmp_path / "model")
    known = some(five_slices, 0, 1, 2)
    again.infer_emb(known)
    assert again.impute(known)["adt"][1].shape == (known["rna"][1].n_obs, 20)
    new = some(five_slices, 3)
    again.infer_emb(new)
    with pytest.raises(InputError, match=r"impute: the model was saved without counts"):
        again.impute(new)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: m.infer_emb(some(d, 2, 3)), "spots of rna are not those that the model was made with"),
        (lambda m, d: m.infer_emb({"atac": d["rna"][3:]}), "the model has no atac"),
        (lambda m, d: m.impute(some(d, 3)), r"obsm\['emb'\] is missing"),
    ],
)
def test_new_slices_that_do_not_fit(trained, five_slices, call, message):
    with pytest.raises(InputError, match=message):
        call(trained, five_slices)


def test_new_features_of_another_width_are_told(trained, five_slices):
    new = some(five_slices, 3)
    new["rna"][0].obsm["dimred_bc"] = new["rna"][0].obsm["dimred_bc"][:, :5]
    with pytest.raises(InputError, match=r"differs in width: 5 in s4, 12 in the model"):
        trained.infer_emb(new)


def test_what_is_no_model_is_told(trained, reduced, tmp_path):
    with pytest.raises(InputError, match="save: the model is not trained"):
        model_of(reduced).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(InputError, match=r"model .*is not there"):
        SpaMosaic.load(tmp_path / "model")
    with pytest.raises(InputError, match=r"layers\['raw'\] is missing"):
        trained.save(tmp_path / "model", layer_key="raw")
    trained.save(tmp_path / "model")
    assert not [path for path in (tmp_path / "model").iterdir() if path.suffix in (".pkl", ".pt", ".pickle", ".npy")]
    manifest = tmp_path / "model" / "spamosaic.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(told | {"format": 99, "version": "9.9.9"}))
    with pytest.raises(InputError, match=r"has format 99, of version 9\.9\.9"):
        SpaMosaic.load(tmp_path / "model")
    manifest.write_text(json.dumps(told))
    weights = tmp_path / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"model.safetensors is damaged: it is not what was written"):
        SpaMosaic.load(tmp_path / "model")
    weights.write_bytes(whole[:-9])
    with pytest.raises(InputError, match=r"model.safetensors has .* bytes instead of"):
        SpaMosaic.load(tmp_path / "model")
    manifest.unlink()
    with pytest.raises(InputError, match=r"has no spamosaic.json, so it is no model"):
        SpaMosaic.load(tmp_path / "model")
    with pytest.raises(InputError, match=r"is there, and has other files"):
        trained.save(tmp_path / "model")
