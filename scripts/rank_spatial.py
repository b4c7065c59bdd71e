"""Rank the features of a modality by how strongly they follow the tissue."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import files, store
    from mosaic.analyse import spatial_features
    from mosaic.prepare import normalize

    params = snakemake.params
    slices = [normalize.normalize_slice(store.read(path), params.scale) for path in snakemake.input.slices]
    ranked = spatial_features.rank_spatial(slices, params.n_neighbors, params.radius, most=params.n_features)
    files.write_table(ranked, snakemake.output[0], float_format="%.6g")
