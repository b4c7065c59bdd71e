"""Rank the marker features of the domains in one modality."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import files, store, tables
    from mosaic.analyse import markers
    from mosaic.prepare import normalize

    domains = tables.read_table(snakemake.input.domains)["domain"]
    # One at a time in memory.
    slices = (normalize.normalize_slice(store.read(path), snakemake.params.scale) for path in snakemake.input.slices)
    found = markers.rank_markers(slices, domains)
    names = tables.read_labels(snakemake.input.names).names
    for table in found:
        for column in table.columns.intersection(["domain", "marker_of"]):
            table[column] = table[column].map(names)
    files.write_table(found.table, snakemake.output.table, index=False, float_format="%.6g")
    files.write_table(found.profile, snakemake.output.profile, index=False, float_format="%.6g")
