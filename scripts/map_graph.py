"""Build the graph of new slices, each linked to the slices of a reference."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    from mosaic import store
    from mosaic.integrate import graph

    mapped, reference = store.read(snakemake.input.mapped), store.read(snakemake.input.reference)
    store.write(graph.link_to_reference(mapped, reference, **snakemake.params.settings), snakemake.output[0])
