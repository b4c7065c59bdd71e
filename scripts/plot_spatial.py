"""Plot the features of a modality that follow the tissue most."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import tables
    from mosaic.figures import spatial_features, style

    ranked = tables.read_table(snakemake.input.ranked, index="feature")
    colours = style.palette(snakemake.params.slices)
    figure = spatial_features.spatial_ranking(
        ranked, {name: colour for name, colour in colours.items() if name in ranked.columns[4:]}
    )
    style.save(figure, snakemake.output.svg, snakemake.output.png)
