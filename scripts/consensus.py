"""Find the consensus domains of all seeds."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import files, tables
    from mosaic.analyse import consensus, domain_names

    voters = [tables.read_table(path) for path in snakemake.input.domains]
    first = voters[0].index
    voters = [tables.read_table(path, first) for path in snakemake.input.domains]
    found = consensus.consensus(dict(zip(snakemake.params.seeds, voters, strict=True)))
    if snakemake.params.names:
        domains = tables.read_table(snakemake.input.first_domains)["domain"]
        names = domain_names.name_domains(found.spots["domain"], domains, snakemake.params.names)["name"]
        found.spots["name"] = found.spots["domain"].map(names)
    files.write_table(found.spots, snakemake.output.spots, index_label="spot", float_format="%.6g")
    files.write_table(found.agreement, snakemake.output.agreement, index=False, float_format="%.6g")
    files.write_table(found.support, snakemake.output.support, index=False)
