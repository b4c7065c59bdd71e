"""Domains for vendors' browsers; tests/test_designs.py has the result file as a whole."""

import anndata as ad
import numpy as np
import pandas as pd

from mosaic import embedding, store, tables
from mosaic.analyse import export


def test_browsers_get_the_barcodes_of_the_file_and_the_domains_of_one_slice():
    obs = pd.DataFrame(
        {
            "slice": pd.Categorical(["s1", "s10", "s1"]),
            "barcode": ["AAA-1", "AAA-1", "CCC-1"],
            "modalities": "rna",
            "mosaic_domain": pd.Categorical(["2", "1", "10"]),
            "domain_spamosaic_1": pd.Categorical(["2", "1", "10"]),
            "consensus_spamosaic": pd.Categorical(["3", "1", "3"]),
            "confidence_spamosaic": 0.5,
            "truth": "x",
        },
        index=["s1:AAA-1", "s10:AAA-1", "s1:CCC-1"],
    )
    loupe, xenium = export.browser_tables(obs, "s1")
    assert loupe.columns.tolist() == ["Barcode", "mosaic_domain", "domain_spamosaic_1", "consensus_spamosaic"]
    assert loupe.astype(str).to_numpy().tolist() == [["AAA-1", "2", "2", "3"], ["CCC-1", "10", "10", "3"]]
    assert xenium.to_csv(index=False) == "cell_id,group\nAAA-1,2\nCCC-1,10\n"


def test_features_follow_their_spots_whatever_the_order_of_the_slices(tmp_path):
    # The sheet has the rows of RNA as s1, s2, and those of ADT as s2, s1; features are in the order of the slices.
    def slices(modality, first):
        found = {}
        for number, name in enumerate(("s1", "s2")):
            barcodes = [f"BC{spot}" for spot in range(3)]
            obs = pd.DataFrame({"slice": pd.Categorical([name] * 3), "barcode": barcodes})
            obs.index = [f"{name}:{barcode}" for barcode in barcodes]
            values = np.full((3, 2), first + number, dtype=np.float32)
            found[name] = ad.AnnData(values, obs=obs, obsm={"spatial": values, "X_reduced": values})
            found[name].var_names = [f"{modality}{feature}" for feature in range(2)]
        return found

    files, reduced, sheet = {}, {}, {"rna": ["s1", "s2"], "adt": ["s2", "s1"]}
    for first, (modality, order) in enumerate(sheet.items()):
        own = slices(modality, 10 * first)
        files[modality] = [tmp_path / f"{name}.{modality}.h5ad" for name in order]
        for path, name in zip(files[modality], order, strict=True):
            store.write(ad.AnnData(own[name].X, obs=own[name].obs, var=own[name].var), path)
        reduced[modality] = ad.concat([own["s1"], own["s2"]])
    latent = {name: np.asarray(adata.X) for name, adata in reduced.items()}
    mdata = embedding.collect_embeddings(reduced, latent)
    domains = pd.Series(0, index=mdata.obs_names)
    umap = pd.DataFrame(0.0, index=mdata.obs_names, columns=["UMAP1", "UMAP2"])
    labels = tables.DomainLabels({"0": "0"}, {"0": "#0072B2"})
    run = export.Run("spamosaic", 1, mdata, mdata, domains, umap, {}, labels)
    result = export.assemble_mudata(files, reduced, [run], {}, {})
    for modality, first in (("rna", 0), ("adt", 10)):
        own = result[modality]
        expected = np.where(own.obs["slice"] == "s1", first, first + 1)
        for key in ("X_reduced", "spatial", "X_spamosaic_1"):
            np.testing.assert_array_equal(np.asarray(own.obsm[key])[:, 0], expected)
