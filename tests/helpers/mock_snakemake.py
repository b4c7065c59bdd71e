"""One job of a finished run, in this process, where a debugger can stop in its script.

    .venv/bin/python tests/helpers/mock_snakemake.py cluster method=spamosaic seed=1234

Runs in the folder of the run, with its config or that of ``--configfile``, and writes the job's outputs anew. What the
job says goes to the terminal instead of its log, and it leaves no record of versions.
"""

import argparse
import logging
import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from snakemake.api import SnakemakeApi
from snakemake.iocontainers import Snakemake
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

REPOSITORY = Path(__file__).parents[2]


def mock_snakemake(
    rule: str, *, folder: str | Path = ".", config_files: Sequence[Path] = (), **wildcards: str | int
) -> Snakemake:
    """What Snakemake gives the script of one job, as ``snakemake``; its attribute ``script`` is the script's path.

    Parameters
    ----------
    rule
        The job's rule.
    folder
        Where the run is: its results, and its config, unless ``config_files`` name others.
    wildcards
        Those that tell the job from the rule's others.

    Raises
    ------
    LookupError
        If none or several of the run's jobs are meant, with a list of what there is, or the rule has no script.
    """
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=os.cpu_count()),
            config_settings=ConfigSettings(configfiles=config_files),
            snakefile=REPOSITORY / "Snakefile",
            workdir=Path(folder),
        )
        workflow.dag(DAGSettings()).execute_workflow(pseudo_executor="dryrun")
        jobs = [job for job in workflow._workflow.dag.jobs if job.rule.name == rule]
        meant = [job for job in jobs if all(job.wildcards_dict.get(key) == str(is_) for key, is_ in wildcards.items())]
        if len(meant) != 1:
            known = [" ".join(f"{key}={value}" for key, value in job.wildcards_dict.items()) for job in jobs]
            raise LookupError(f"{len(meant)} jobs of rule {rule} are meant; the run has: {'; '.join(known) or 'none'}")
        (job,) = meant
        if job.rule.script is None:
            raise LookupError(f"rule {rule} has no script that runs in the environment of Snakemake")
        script = Path(job.rule.basedir.join(job.rule.script).get_path_or_uri(secret_free=True)).resolve()
        given = (job.input, job.output, job.params, job.wildcards, job.threads, job.resources, job.log)
        made = Snakemake(*given, workflow._workflow.config, rule, None, str(script.parent))
    made.script = script
    return made


@contextmanager
def _on_the_terminal(log: str | Path, *, threads: int = 1, versions: str | None = None) -> Iterator[None]:
    """In place of ``mosaic.logs.job_log``: the same threads, but the terminal stays, and a fault is raised as it is."""
    for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    logging.basicConfig(level=logging.INFO)
    yield


def run(snakemake: Snakemake, folder: str | Path = ".") -> None:
    """Run a job's script in this process."""
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    here = Path.cwd()
    os.chdir(folder)
    for path in snakemake.output:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        with mock.patch("mosaic.logs.job_log", _on_the_terminal):
            runpy.run_path(str(snakemake.script), {"snakemake": snakemake})
    finally:
        os.chdir(here)
        sys.path.remove(str(REPOSITORY / "scripts"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rule")
    parser.add_argument("wildcards", nargs="*", metavar="NAME=VALUE", type=lambda pair: tuple(pair.split("=", 1)))
    parser.add_argument("--configfile", type=Path, action="append", default=[])
    given = parser.parse_args()
    run(mock_snakemake(given.rule, config_files=given.configfile, **dict(given.wildcards)))
