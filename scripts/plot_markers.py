"""Draw the features that mark the domains."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import charts, drawing, spots

    domains = spots.read_table(snakemake.input.domains)["domain"]
    truth = spots.truth(snakemake.input.annotations, domains.index, snakemake.params.truth)
    # A feature may be called NA.
    profile = spots.read_table(snakemake.input.profile, index="feature").reset_index()
    figure = charts.marker_dots(profile, drawing.domain_colours(domains, truth))
    drawing.save(figure, snakemake.output.svg, snakemake.output.png)
