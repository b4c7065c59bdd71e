"""Match the features of the slices of a modality, and list what they share."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import files, store
    from mosaic.prepare import feature_names, read

    own = [row for row in snakemake.params.rows if row[1] == snakemake.wildcards.modality]
    kind, modality = snakemake.params.kind, snakemake.wildcards.modality
    tables = {
        name: read.read_features(path, name, kind, modality=modality, options=options) for name, _, path, options in own
    }
    known = None
    if snakemake.input.reference:
        known = feature_names.features_of_reference(*map(store.read_var, snakemake.input.reference))
    found = feature_names.match_features(tables, modality, known)
    files.write_table(found.listed, snakemake.output.listed, index=False)
    files.write_table(found.renamed, snakemake.output.renamed, index=False)
