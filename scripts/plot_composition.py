"""Plot the proportion of each slice in each domain."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import spots, store
    from mosaic.figures import charts, style

    domains = store.read_table(snakemake.input.domains)["domain"]
    truth = spots.truth(snakemake.input.annotations, domains.index, snakemake.params.truth)
    composition = store.read_table(snakemake.input.composition, index="domain")
    figure = charts.domain_composition(composition, style.domain_colours(domains, truth))
    style.save(figure, snakemake.output.svg, snakemake.output.png)
