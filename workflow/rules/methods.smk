# Peers: from counts to embedding.h5mu with methods of others. Needs <results>/qc and, for some, normalized and reduced;
# included where the config lists one. Each runs with a Python of its own: that of its environment in envs/, or the one
# that the config names under `interpreters`.
import json


def peer_slices(wildcards):
    """The files of each slice that a peer reads."""
    folder = methods.PEERS[wildcards.method].slices
    return measured(f"<results>/{folder}/{{slice}}.{{modality}}.h5ad") if folder else []


def peer_reduced(wildcards):
    """What `reduce` made of each modality, in the order of the config, for a peer that reads it."""
    wanted = methods.PEERS[wildcards.method].reduced
    return collect("<results>/reduced/{modality}.h5ad", modality=SHEET.modalities) if wanted else []


def peer_script(wildcards):
    """The script of a peer, and the library's modules that it reaches."""
    return SCRIPTS / f"embed_{methods.PEERS[wildcards.method].script}.py"


def peer_settings(wildcards):
    """What a peer follows of the config, as JSON."""
    sections = ("modalities", *methods.PEERS[wildcards.method].settings)
    return json.dumps({key: config[key] for key in sections} | {"device": config["train"]["device"]})


def peer_python(wildcards):
    """The Python that runs a peer's script."""
    ready = "python" if WITH_CONDA or methods.PEERS[wildcards.method].separate else sys.executable
    return config["interpreters"].get(wildcards.method, ready)


rule embed_peer:
    """Embed every spot with a method of others."""
    input:
        slices=peer_slices,
        reduced=peer_reduced,
        script=peer_script,
        library=lambda wildcards: reached(peer_script(wildcards))[0],
    output:
        ensure("<results>/{method}/seed-{seed}/embedding.h5mu", non_empty=True),
    log:
        "<results>/logs/embed_peer/{method}.seed-{seed}.log",
    benchmark:
        "<results>/benchmarks/embed_peer/{method}.seed-{seed}.tsv"
    wildcard_constraints:
        method="|".join(map(re.escape, PEERS)),
    conda:
        lambda wildcards: f"../../envs/{methods.PEERS[wildcards.method].env}.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=memory(4000, 60),
        runtime=240,
        gpu=int(config["train"]["device"] == "cuda"),
    params:
        python=peer_python,
        settings=peer_settings,
        # Part of the result, so the config's and not what Snakemake happens to give.
        threads=config["train"]["threads"],
    message:
        "Embedding the spots with {wildcards.method}, seed {wildcards.seed}"
    shell:
        "{params.python:q} {input.script:q} --slices {input.slices:q} --reduced {input.reduced:q}"
        " --settings {params.settings:q} --seed {wildcards.seed} --threads {params.threads} --log {log:q}"
        " --output {output:q}"
