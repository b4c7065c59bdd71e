"""Running the workflow in tests: dry in this process, for real as a process of its own in a copy of the repository."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors.numpy import load_file
from snakemake.api import SnakemakeApi
from snakemake.cli import parse_config
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    DeploymentMethod,
    DeploymentSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

from mosaic import store
from mosaic.simulate.counts import simulate_mosaic

REPOSITORY = Path(__file__).parents[2]
PARTS = (".test", "Snakefile", "config", "envs", "profiles", "resources", "scripts", "workflow")


@contextmanager
def _planned(
    folder: Path,
    config_files: Sequence[Path],
    given: Sequence[str],
    targets: Sequence[str],
    snakefile: Path,
    deployment: Sequence[DeploymentMethod] = (),
):
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(configfiles=config_files, config=parse_config(given)),
            deployment_settings=DeploymentSettings(deployment_method=set(deployment)),
            snakefile=snakefile,
            workdir=folder,
        )
        workflow.dag(DAGSettings(targets=set(targets))).execute_workflow(pseudo_executor="dryrun")
        yield workflow._workflow


def jobs_per_rule(
    folder: Path,
    *config_files: Path,
    given: Sequence[str] = (),
    targets: Sequence[str] = (),
    snakefile: Path = REPOSITORY / "Snakefile",
) -> Counter:
    """Jobs per rule that a run in ``folder`` with this ``--config`` would have, from a dry-run in this process."""
    with _planned(folder, config_files, given, targets, snakefile) as workflow:
        return Counter(job.rule.name for job in workflow.dag.jobs)


def config_of(folder: Path, *config_files: Path, given: Sequence[str] = ()) -> dict:
    """The configuration of a run in ``folder`` with these files, and ``given`` as of ``--config``, when complete."""
    with _planned(folder, config_files, given, [], REPOSITORY / "Snakefile") as workflow:
        return workflow.globals["config"]


def images(folder: Path, given: Sequence[str]) -> dict[str, set[str | None]]:
    """Images of containers by rule, of a run in ``folder`` with ``--sdm apptainer`` and this ``--config``."""
    snakefile, found = REPOSITORY / "workflow" / "Snakefile", {}
    with _planned(folder, [], given, [], snakefile, [DeploymentMethod.APPTAINER]) as workflow:
        for job in workflow.dag.jobs:
            found.setdefault(job.rule.name, set()).add(job.container_img_url)
    return found


def weights(model: Path) -> dict[str, bytes]:
    """Weights of a model, to the bit; the file as a whole differs from run to run in the order of its metadata."""
    return {name: array.tobytes() for name, array in load_file(model).items()}


def write_mosaic(folder: Path, design: dict, config: str) -> None:
    """Write a mosaic of this design into ``folder`` as a user's files, with its sample sheet and this config."""
    rows = ["slice\tmodality\tpath"]
    for name in ("user", "config"):
        (folder / name).mkdir(exist_ok=True)
    for (name, modality), adata in simulate_mosaic(design, seed=0).items():
        path = f"user/{name}.{modality}.h5ad"
        store.write(adata, folder / path)
        rows.append(f"{name}\t{modality}\t{path}")
    (folder / "config/slices.tsv").write_text("\n".join(rows) + "\n")
    (folder / "config/config.yaml").write_text(config)


class Checkout:
    """A copy of the repository to run, change and break."""

    def __init__(self, folder: Path):
        self.folder = folder
        for part in PARTS:
            source = REPOSITORY / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
            else:
                shutil.copy(source, folder / part)

    def simulate(self, design: dict, config: str) -> None:
        """Replace the demo by a mosaic of this design, as a user's files, and by this config."""
        write_mosaic(self.folder, design, config)

    def snakemake(self, *arguments: str, cores: int | None = 2) -> subprocess.CompletedProcess:
        """Run Snakemake here, with the demo's configuration unless told otherwise; cores None leaves them to it."""
        limit = [] if cores is None else ["--cores", str(cores)]
        command = [sys.executable, "-m", "snakemake", *limit, *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)

    def would_run(self, *arguments: str) -> set[str]:
        """Rules that a run would run now."""
        done = self.snakemake("--dry-run", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        text = done.stdout + done.stderr
        if "Nothing to be done" in text:
            return set()
        return set(stats(text))


def stats(text: str) -> Counter:
    """Jobs per rule in what a dry-run printed."""
    table = text.split("Job stats:")[1].split("total")[0]
    return Counter(
        {rule: int(count) for rule, count in (line.split() for line in table.splitlines()[3:] if line.strip())}
    )
