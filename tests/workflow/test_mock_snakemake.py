"""A job's script under a debugger: in this process, and to the same bits."""

import pytest
from chain import THREE_SLICES
from mock_snakemake import mock_snakemake, run

CONFIG = """
modalities: {rna: {kind: rna}, adt: {kind: protein}}
cluster: {n_domains: 3}
"""
OUTPUTS = [f"results/qc/s1.rna.{suffix}" for suffix in ("h5ad", "json", "tsv")]


def test_a_script_in_this_process_writes_the_bits_of_the_run(checkout):
    checkout.simulate(THREE_SLICES, CONFIG)
    done = checkout.snakemake(OUTPUTS[0])
    assert done.returncode == 0, done.stdout + done.stderr
    written = {name: (checkout.folder / name).read_bytes() for name in OUTPUTS}
    for name in OUTPUTS:
        (checkout.folder / name).unlink()
    given = mock_snakemake("qc", folder=checkout.folder, slice="s1", modality="rna")
    assert (given.wildcards.slice, given.params.kind, given.threads) == ("s1", "rna", 1)
    assert given.config["cluster"]["n_domains"] == 3
    run(given, checkout.folder)
    assert {name: (checkout.folder / name).read_bytes() for name in OUTPUTS} == written
    with pytest.raises(LookupError, match=r"5 jobs of rule qc are meant; the run has: .*slice=s2 modality=rna"):
        mock_snakemake("qc", folder=checkout.folder)
    with pytest.raises(LookupError, match="rule all has no script"):
        mock_snakemake("all", folder=checkout.folder)
