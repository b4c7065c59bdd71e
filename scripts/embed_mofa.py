"""Baseline MOFA+: a view per modality, a group per slice, ten factors; views that a slice lacks are missing."""

from mosaic.baselines.run import baseline_run

with baseline_run(__doc__) as task:
    import tempfile

    import anndata as ad
    import mudata as md
    import muon as mu
    import numpy as np
    import pandas as pd
    from scipy import sparse
    from sklearn.preprocessing import normalize

    from mosaic import spots

    # MOFA+ keeps views dense in memory: use this many of the most variable peaks.
    most_peaks = 5000

    def view(adata: ad.AnnData, *, kind: str, normalization: str, scale: bool) -> ad.AnnData:
        """Normalised features of a modality; log-normalise chromatin, and counts that the config does not normalise."""
        X = sparse.csr_matrix(adata.X)
        if kind == "epigenome" or (normalization == "none" and kind != "features"):
            X = (normalize(X, norm="l1") * 1e4).log1p()
        if kind == "epigenome":
            variance = X.power(2).mean(axis=0) - np.square(X.mean(axis=0))
            X = X[:, np.sort(np.argsort(-np.ravel(variance))[:most_peaks])]
        X = X.toarray()
        X = X[:, X.std(axis=0) > 0]
        return ad.AnnData(X / X.std(axis=0) if scale else X, obs=adata.obs[["slice"]])

    graphs = task.selected()
    chosen = {
        name: {key: own[key] for key in ("kind", "normalization", "scale")}
        for name, own in task.settings["modalities"].items()
    }
    mdata = md.MuData({name: view(graph, **chosen[name]) for name, graph in graphs.items()})
    index = spots.union({name: graph.obs for name, graph in graphs.items()})
    mdata = mdata[index.index].copy()
    mdata.obs = index
    with tempfile.TemporaryDirectory() as folder:
        options = {"groups_label": "slice", "use_obs": "union", "use_var": None, "save_metadata": False}
        mu.tl.mofa(mdata, **options, seed=task.seed, outfile=f"{folder}/model.hdf5", quiet=False)
    task.write_joint(graphs, pd.DataFrame(mdata.obsm["X_mofa"], mdata.obs_names))
