"""How many threads a job may take."""

import os


def n_threads() -> int:
    """As many as OMP_NUM_THREADS says, which Snakemake sets to a rule's ``threads``; else one per core."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
