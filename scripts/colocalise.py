"""Compare pairs of features of two modalities on the tissue."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import files, store
    from mosaic.analyse import spatial_features
    from mosaic.prepare import normalize

    params, slices, features = snakemake.params, {}, {}
    for modality, own in store.read_slices(snakemake.input.slices).items():
        for adata in own:
            name = str(adata.obs["slice"].iloc[0])
            slices.setdefault(name, {})[modality] = normalize.normalize_slice(adata, params.scales[modality])
            features.setdefault(modality, {}).update(dict.fromkeys(adata.var_names))
    features = {modality: list(features[modality]) for modality in params.scales if modality in features}
    pairs = spatial_features.pairs_to_compare(features, params.pairs)
    table = spatial_features.colocalisation(slices, pairs, params.n_neighbors, params.radius)
    files.write_table(table, snakemake.output[0], index=False, float_format="%.6g")
