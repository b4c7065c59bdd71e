"""Name the domains of a run and colour them, as in the first run."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import files, spots, tables
    from mosaic.analyse import domain_names
    from mosaic.figures import style

    domains, first = (
        tables.read_table(path)["domain"] for path in (snakemake.input.domains, snakemake.input.first_domains)
    )
    table = domain_names.name_domains(domains, first, snakemake.params.names)
    truth = spots.truth(snakemake.input.annotations, domains.index, snakemake.params.truth)
    if truth is None:
        colours = style.colours_of_counterparts(table["counterpart"], style.palette(first))
    else:
        colours = style.matched_palette(domains, truth)[0]
    table["colour"] = [colours[str(domain)] for domain in table.index]
    files.write_table(table, snakemake.output[0], float_format="%.6g")
