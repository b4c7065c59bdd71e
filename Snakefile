# The index of the workflow: what it is made of and what it makes. `snakemake --cores all` runs the demo until
# config/config.yaml and config/slices.tsv say otherwise; config/README.md explains every key, common.smk loads them.
from snakemake.utils import min_version

min_version("9.1")


pathvars:
    results="results",


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/integrate.smk"


if PEERS:

    include: "workflow/rules/methods.smk"


include: "workflow/rules/analyse.smk"
include: "workflow/rules/check.smk"
include: "workflow/rules/figures.smk"


rule all:
    default_target: True
    input:
        "<results>/integrated.h5mu",
        "<results>/overview.html",
        collect(
            "<results>/{method}/seed-{seed}/{table}.tsv",
            method=config["methods"],
            seed=config["seeds"],
            table=["metrics", "checks"],
        ),
        enforced(),
        figures(),
