"""Plot what chose the number of domains, and how domains split as the number grows."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic import tables
    from mosaic.figures import n_domains, style

    labels = tables.read_labels(snakemake.input.names)
    tree = pd.read_csv(snakemake.input.tree, sep="\t")
    tree["like"] = labels.of(tree["like"])
    figure = n_domains.choice_of_number(pd.read_csv(snakemake.input.curve, sep="\t"), tree, labels.colours)
    style.save(figure, snakemake.output.svg, snakemake.output.png)
