"""Designs and kinds that the demo has not, from simulated counts to domains and imputed counts."""

import importlib
import runpy
from contextlib import nullcontext
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from chain import THREE_SLICES, simulated
from running import REPOSITORY
from sklearn.metrics import adjusted_rand_score
from snakemake.iocontainers import Namedlist

from mosaic import embedding, matrices, store, tables
from mosaic.analyse import export, metrics, umap

KINDS = {"rna": "rna", "adt": "protein", "atac": "epigenome"}
SHAPES = {
    "rna": {"n_features": 120, "depth": 800, "markers": 12, "marker_fold": 5.0},
    "adt": {"n_features": 20, "depth": 1500, "markers": 3, "marker_fold": 5.0},
    "atac": {"n_features": 1500, "depth": 150, "markers": 150, "marker_fold": 8.0},
}


def by_slice(adata, folder):
    """Files of the slices of an AnnData, as the rules write them."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}.h5ad" for name in dict.fromkeys(adata.obs["slice"].astype(str))]
    for path in paths:
        store.write(adata[(adata.obs["slice"] == path.stem).to_numpy()].copy(), path)
    return paths


def assert_rows(result, layers, slices):
    """A modality of the result has the spots of these slices, each with its values, and zeros elsewhere."""
    assert result.n_obs == sum(own.n_obs for own in slices if own.n_vars)
    for own in slices:
        for layer in layers if own.n_vars else ():
            found = result[own.obs_names, own.var_names].layers[layer]
            np.testing.assert_array_equal(matrices.dense(found), matrices.dense(own.layers[layer]))
            assert result[own.obs_names].layers[layer].sum() == found.sum()


@pytest.mark.parametrize(
    "slices",
    [
        pytest.param({"s1": ["rna"], "s2": ["rna"], "s3": ["rna"]}, id="horizontal"),
        pytest.param({"s1": ["rna", "adt"]}, id="vertical"),
        pytest.param({"s1": ["rna", "adt", "atac"], "s2": ["rna", "atac"], "s3": ["adt"]}, id="three modalities"),
        pytest.param({"s1": ["rna", "adt"], "s2": ["adt", "atac"], "s3": ["rna"]}, id="chain of bridges"),
    ],
)
def test_design_end_to_end(tmp_path, slices):
    names = list(dict.fromkeys(name for own in slices.values() for name in own))
    design = {
        "grid": {"rows": 18, "columns": 18, "pitch": 100},
        "domains": {"a": 1, "b": 1, "c": 1},
        "slices": slices,
        "modalities": {name: {"kind": KINDS[name]} | SHAPES[name] for name in names},
    }
    settings = {name: {"n_comps": 15} for name in names}
    run = simulated(design, seed=1, modalities=settings, train={"n_epochs": 60})
    mdata, truth, labels = run.embedding(0), run.truth(), run.domains(0)["domain"].to_numpy()
    assert adjusted_rand_score(truth, labels) > 0.6
    table = run.metrics(0).set_index(["metric", "scope"])["value"]
    assert np.isnan(table["iLISI", "all"]) == (len(slices) == 1)
    pairs = {scope for metric, scope in table.index if metric == metrics.TRAINING_PAIRS}
    expected = {f"{s}:{a}~{b}" for s, own in slices.items() for i, a in enumerate(own) for b in own[i + 1 :]}
    assert pairs == (expected or {"all"})

    imputed = {name: [] for name in names}
    for slice_name, name in run.sheet.missing:
        done = run.imputed(slice_name, name, 0)
        assert np.isfinite(matrices.dense(done.layers["imputed"])).all()
        imputed[name].append(done)
    counts = {name: adata.copy() for name, adata in run.counts().items()}
    for adata in counts.values():  # as the rules write them
        del adata.obs["domain"]
    files = {name: by_slice(adata, tmp_path / name) for name, adata in counts.items()}
    runs = [
        export.Run(
            method="spamosaic",
            seed=1234,
            embedding=mdata,
            aligned=run.aligned(0),
            domains=pd.Series(labels, index=mdata.obs_names),
            umap=pd.DataFrame(mdata.obsm[embedding.LATENT][:, :2], index=mdata.obs_names),
            imputed={
                name: by_slice(ad.concat(own), tmp_path / f"imputed-{name}") for name, own in imputed.items() if own
            },
            labels=tables.DomainLabels(
                {"0": "0", "1": "cortex", "2": "2"}, {"0": "#0072B2", "cortex": "#E69F00", "2": "#009E73"}
            ),
        )
    ]
    shown = pd.Series(labels).map({0: "#000000", 1: "#000001", 2: "#000002"}).to_numpy()
    result = export.assemble_mudata(
        files,
        run.graphs(),
        runs,
        {"spamosaic": pd.DataFrame({"domain": labels, "confidence": 0.75, "colour": shown}, index=mdata.obs_names)},
        {"modalities": {}},
        pd.DataFrame({"domain": truth}),
        {"donor": {"s1": "007"}, "age": {}},
    )
    export.write_mudata(result, files, runs, tmp_path / "result.h5mu")
    result = store.read(tmp_path / "result.h5mu")
    for name in names:
        assert_rows(result[name], ("counts",), [counts[name]])
        assert (result[name].layers["counts"] != result[name].X).nnz == 0
        if imputed[name]:
            assert_rows(result[f"{name}_imputed"], ("imputed", "imputed_sd"), imputed[name])
            assert (result[f"{name}_imputed"].layers["imputed"] != result[f"{name}_imputed"].X).nnz == 0
    first = result.obs["slice"] == "s1"
    assert (result.obs["donor"][first] == "007").all()
    assert result.obs["donor"][~first].isna().all()
    assert result.obs["age"].isna().all()
    assert (result.obs["consensus_spamosaic"].astype(int) == labels).all()
    assert list(result.uns["mosaic_domain_colors"]) == ["#0072B2", "#E69F00", "#009E73"]
    assert list(result.uns["consensus_spamosaic_colors"]) == ["#000000", "#000001", "#000002"]
    assert (result.obs["confidence_spamosaic"] == 0.75).all()
    assert set(result.mod) == set(names) | {f"{name}_imputed" for _, name in run.sheet.missing}
    assert (result.obs["mosaic_domain"].map({"0": 0, "cortex": 1, "2": 2}).astype(int) == labels).all()
    assert (result.obs["domain"] == truth).all()


def test_a_small_panel_beside_whole_transcriptomes(tmp_path):
    """Union finds more of the panel's domains than shared features alone, and imputes what the panel lacks."""
    design = {
        "grid": {"rows": 18, "columns": 18, "pitch": 100},
        "domains": {"a": 1, "b": 1, "c": 1},
        "slices": {"s1": ["rna"], "s2": ["rna"], "s3": ["rna"]},
        "modalities": {
            "rna": {"kind": "rna", "n_features": 600, "depth": 600, "markers": 40, "marker_fold": 2.2},
        },
    }
    whole = {}

    def panel(name, modality, adata):
        whole[name] = adata
        return adata[:, ::6].copy() if name == "s2" else adata

    runs = {
        features: simulated(design, seed=1, change=panel, modalities={"rna": {"n_comps": 15, "features": features}})
        for features in ("shared", "union")
    }
    assert {name: run.reduced()["rna"].n_vars for name, run in runs.items()} == {"shared": 100, "union": 600}
    found = {}
    for features, run in runs.items():
        domains = run.domains(0)
        own = (domains["slice"] == "s2").to_numpy()
        labels, truth = domains["domain"].to_numpy(), run.truth().to_numpy(dtype=str)
        found[features] = adjusted_rand_score(truth, labels), adjusted_rand_score(truth[own], labels[own])
    print(found)
    assert found["union"][0] > max(0.6, found["shared"][0])
    assert found["union"][1] > max(0.4, found["shared"][1] - 0.05)
    run = runs["union"]
    imputed = [run.imputed(name, "rna", 0) for name in ("s1", "s2", "s3")]
    assert [adata.n_vars for adata in imputed] == [0, 500, 0]
    # Of the features that the panel lacks, those that mark the domains are where they were before they were left out.
    made = imputed[1]
    hidden = np.log1p(whole["s2"][made.obs["barcode"].tolist(), made.var_names].X.toarray())
    means = pd.DataFrame(hidden).groupby(whole["s2"].obs.loc[made.obs["barcode"], "domain"].to_numpy(dtype=str)).mean()
    marking = np.argsort(-means.var().to_numpy())[:50]
    values = np.log1p(made.layers["imputed"].toarray())
    correlations = [np.corrcoef(values[:, column], hidden[:, column])[0, 1] for column in marking]
    assert np.mean(correlations) > 0.2
    mdata = run.embedding(0)
    domains = run.domains(0)["domain"]
    known = [str(number) for number in sorted(domains.unique())]
    # The panel has its own features alone, as the rules write it.
    passed = run.passed()
    slices = [passed[name, "rna"].adata for name in design["slices"]]
    files = {"rna": [path for own in slices for path in by_slice(own, tmp_path / "qc")]}
    runs = [
        export.Run(
            method="spamosaic",
            seed=1234,
            embedding=mdata,
            aligned=run.aligned(0),
            domains=domains,
            umap=pd.DataFrame(mdata.obsm[embedding.LATENT][:, :2], index=mdata.obs_names),
            imputed={"rna": [path for own in imputed for path in by_slice(own, tmp_path / "imputed")]},
            labels=tables.DomainLabels(dict(zip(known, known, strict=True)), dict.fromkeys(known, "#000000")),
        )
    ]
    result = export.assemble_mudata(files, run.graphs(), runs, {}, {"modalities": {}}, union=["rna"])
    export.write_mudata(result, files, runs, tmp_path / "result.h5mu")
    result = store.read(tmp_path / "result.h5mu")
    assert_rows(result["rna"], ("counts",), slices)
    assert_rows(result["rna_imputed"], ("imputed", "imputed_sd"), imputed)
    assert result["rna"].shape == (972, 600)
    assert result["rna"].varm["measured"].sum().to_dict() == {"s1": 600, "s2": 100, "s3": 600}
    assert result["rna_imputed"].shape == (324, 500)


def test_imputed_features_of_different_panels_are_joined():
    parts = []
    for name, features in (("s1", ["a", "b"]), ("s2", ["c"]), ("s3", [])):
        obs = pd.DataFrame({"slice": pd.Categorical([name] * 2)}, index=[f"{name}:0", f"{name}:1"])
        parts.append(ad.AnnData(obs=obs, var=pd.DataFrame(index=features)))
    joined = export._joined(parts)
    assert joined.obs_names.tolist() == ["s1:0", "s1:1", "s2:0", "s2:1"]
    assert joined.var_names.tolist() == ["a", "b", "c"]
    assert joined.varm["imputed"]["s2"].tolist() == [False, False, True]


def test_slices_of_one_domain_each_have_no_markers_and_a_figure_that_says_so(tmp_path, monkeypatch):
    """Such a run is red, which its checks say: no rule before them may fail."""
    monkeypatch.setattr("mosaic.logs.job_log", lambda log, **_: nullcontext())
    counts = simulated(THREE_SLICES).counts()["rna"]
    slices, paths = counts.obs["slice"].astype(str), []
    for name in ("s1", "s2"):
        paths.append(tmp_path / f"{name}.rna.h5ad")
        store.write(counts[slices == name].copy(), paths[-1])
    domains = slices.map({"s1": 0, "s2": 1, "s3": 1}).rename("domain")
    domains.to_csv(tmp_path / "domains.tsv", sep="\t", index_label="spot")
    (tmp_path / "names.tsv").write_text("domain\tname\tcolour\n0\t0\t#0072B2\n1\t1\t#E69F00\n")

    def script(name, given, made, **params):
        made = {key: tmp_path / path for key, path in made.items()}
        given = {"domains": tmp_path / "domains.tsv", "names": tmp_path / "names.tsv", **given}
        job = {"input": given, "output": made, "params": params, "log": {"log": tmp_path / "job.log"}}
        job = {key: Namedlist(fromdict=own) for key, own in job.items()}
        runpy.run_path(str(REPOSITORY / f"scripts/{name}.py"), {"snakemake": SimpleNamespace(**job)})
        return made

    tables = script("rank_markers", {"slices": paths}, {"table": "m.tsv", "profile": "p.tsv"}, scale="log")
    assert tables["table"].read_text().startswith("slice\tdomain\tfeature\tauroc\t")
    assert tables["profile"].read_text() == "domain\tfeature\tmean\tshare\tmarker_of\n"
    drawn = script("plot_markers", tables, {"svg": "m.svg", "png": "m.png"})
    assert "No slice has two domains" in drawn["svg"].read_text()


def test_layout_is_reproducible():
    features = np.random.default_rng(0).normal(size=(60, 5))
    np.testing.assert_array_equal(umap.umap_coordinates(features), umap.umap_coordinates(features))
    assert umap.umap_coordinates(features).shape == (60, 2)
    # What umap compiles is there for the next process.
    assert importlib.import_module("umap.layouts").rdist.stats.cache_path


def test_layout_of_many_spots_is_that_of_a_sample(monkeypatch, caplog):
    monkeypatch.setattr(umap, "_MOST_SPOTS", 80)
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 60)
    features = rng.normal(size=(120, 5)) + 20 * group[:, None]
    places = umap.umap_coordinates(features, n_neighbors=10)
    assert "a sample of 80 of 120 spots" in caplog.text
    assert np.isfinite(places).all()
    # Each spot lies nearer to its own group than to the other.
    centres = np.array([places[group == key].mean(axis=0) for key in (0, 1)])
    assert (np.linalg.norm(places[:, None] - centres, axis=2).argmin(axis=1) == group).all()
