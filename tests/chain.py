"""The chain of the rules as calls of the library, for tests that need its result but no workflow."""

import anndata as ad

from mosaic import graph, normalize, qc, reduce, settings, spots, training


def graphs_of(files, kinds, linked, **changed):
    """From files (modality -> slice -> path) to graphs, with the defaults of each modality's kind."""
    graphs = {}
    for modality, slices in files.items():
        chosen = settings.KIND_DEFAULTS[kinds[modality]] | changed
        normalization = chosen.pop("normalization")
        read = [spots.read_slice(path, name, kinds[modality]) for name, path in slices.items()]
        passed = [qc.filter_slice(adata, min_counts=1)[0] for adata in read]
        done = [normalize.normalize_slice(adata, normalization) for adata in passed]
        reduced = reduce.reduce_modality(done, modality, kind=kinds[modality], **chosen)
        features = reduced.obsm[reduced.uns["features_key"]]
        names = reduced.obs["slice"].to_numpy(dtype=str)
        edges = {"intra_knns": 10, "radius": None, "inter_knn_base": 10}
        spatial, mutual = graph.build_graph(features, reduced.obsm["spatial"], names, linked[modality], **edges)
        obsp = {"spatial_connectivities": spatial, "mutual_nearest_neighbors": mutual}
        graphs[modality] = ad.AnnData(features, obs=reduced.obs, obsm={"spatial": reduced.obsm["spatial"]}, obsp=obsp)
    return graphs


def embed(graphs, **changed):
    encoders, _ = training.fit(graphs, seed=1234, device="cpu", **changed)
    return training.embed(graphs, encoders, {"K": 2, "w_g": 0.8, "symmetric": False})


def truth_of(graphs, mdata, column="domain"):
    return spots.annotation({name: adata.obs for name, adata in graphs.items()}, mdata.obs_names, column)
