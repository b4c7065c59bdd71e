"""Plot the marker features of the domains."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import spots, store
    from mosaic.figures import charts, style

    domains = store.read_table(snakemake.input.domains)["domain"]
    truth = spots.truth(snakemake.input.annotations, domains.index, snakemake.params.truth)
    # A feature may have the name NA.
    profile = store.read_table(snakemake.input.profile, index="feature").reset_index()
    ranked = not store.read_table(snakemake.input.table, index="feature").empty
    figure = charts.marker_dots(profile, style.domain_colours(domains, truth), ranked=ranked)
    style.save(figure, snakemake.output.svg, snakemake.output.png)
