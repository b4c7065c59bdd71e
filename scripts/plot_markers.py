"""Plot the marker features of the domains."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import tables
    from mosaic.figures import charts, style

    # A feature may have the name NA.
    profile = tables.read_table(snakemake.input.profile, index="feature").reset_index()
    ranked = not tables.read_table(snakemake.input.table, index="feature").empty
    figure = charts.marker_dots(profile, tables.read_labels(snakemake.input.names).colours, ranked=ranked)
    style.save(figure, snakemake.output.svg, snakemake.output.png)
