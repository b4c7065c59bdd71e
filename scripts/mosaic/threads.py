"""Number of threads of a job."""

import os


def n_threads() -> int:
    """The value of OMP_NUM_THREADS, which Snakemake sets to a rule's ``threads``; else one per core."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
