# From counts to embedding.h5mu with baseline methods. Reads <results>/qc and, for some methods, normalized and reduced;
# included if the config lists one. Each method runs in a separate Python: that of its environment in envs/, or the one
# that the config names under `interpreters`.


rule embed_baseline:
    """Embed all spots with a baseline method."""
    input:
        slices=baseline_slices,
        reduced=baseline_reduced,
        pairing=ancient("<results>/pairing.json"),
        script=baseline_script,
        library=lambda wildcards: imported_modules(baseline_script(wildcards))[0],
    output:
        embedding=ensure("<results>/{method}/seed-{seed}/embedding.h5mu", non_empty=True),
        versions=ensure("<results>/logs/embed_baseline/{method}.seed-{seed}.versions.json", non_empty=True),
    log:
        "<results>/logs/embed_baseline/{method}.seed-{seed}.log",
    benchmark:
        "<results>/benchmarks/embed_baseline/{method}.seed-{seed}.tsv"
    wildcard_constraints:
        method="|".join(map(re.escape, BASELINES)),
    conda:
        lambda wildcards: f"../../envs/{methods.BASELINES[wildcards.method].env}.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=memory(4000, 60),
        runtime=240,
        gpu=int(config["train"]["device"] == "cuda"),
    params:
        python=baseline_python,
        settings=baseline_settings,
        # The number of threads affects the result: take it from the config, not from Snakemake.
        threads=config["train"]["threads"],
    message:
        "Embedding the spots with {wildcards.method}, seed {wildcards.seed}"
    shell:
        "{params.python:q} {input.script:q} --slices {input.slices:q} --reduced {input.reduced:q}"
        " --settings {params.settings:q} --seed {wildcards.seed} --threads {params.threads} --log {log:q}"
        " --output {output.embedding:q}"
