"""Proof of the package: `make package` builds what goes to PyPI, installs it as a notebook's user does, and uses it.

    python envs/prove_package.py .venv-package

The virtual environment has what pyproject.toml declares, at the versions of requirements.lock, and nothing else; it is
kept, and made anew when either file changes. Every module of the package must be importable in it, and the published
names and the pipeline integrate a small mosaic. The wheel, which is built from the source distribution, must have all
files of the library and no others; both stay in the folder `dist` of the environment. Needs Python alone.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from zipfile import ZipFile

REPOSITORY = Path(__file__).parents[1]
from make_venv import install  # noqa: E402

# The schemas of the library are those of the workflow, by a link.
PARTS = ("pyproject.toml", "README.md", "LICENSE", "scripts", "workflow/schemas")
# What runs in the new environment, in a folder that holds nothing.
USE = """
import importlib, pkgutil, sys
import mosaic
assert mosaic.__file__.startswith(sys.prefix), mosaic.__file__
# `published` and `midas` drive other packages, and `spatial_data` makes SpatialData: of no use without these.
modules = {module.name for module in pkgutil.walk_packages(mosaic.__path__, "mosaic.")}
for name in sorted(modules - {"mosaic.baselines.published", "mosaic.baselines.midas", "mosaic.analyse.spatial_data"}):
    importlib.import_module(name)

from mosaic.simulate.counts import simulate_mosaic
from mosaic.api import ADT_preprocess, RNA_preprocess, SpaMosaic
slices = {"s1": ["rna", "adt"], "s2": ["rna"]}
design = {
    "grid": {"rows": 12, "columns": 12, "pitch": 100},
    "domains": {"a": 1, "b": 1},
    "slices": slices,
    "modalities": {
        "rna": {"kind": "rna", "n_features": 60, "depth": 600, "markers": 8, "marker_fold": 5.0},
        "adt": {"kind": "protein", "n_features": 12, "depth": 900, "markers": 3, "marker_fold": 5.0},
    },
}
made = simulate_mosaic(design, seed=0)
for (name, _), adata in made.items():
    adata.obs["src"] = name
    adata.layers["counts"] = adata.X.copy()
given = {modality: [made.get((name, modality)) for name in slices] for modality in ("rna", "adt")}
RNA_preprocess(given["rna"], favor="scanpy", batch_key="src", key="dimred_bc", n_comps=8)
ADT_preprocess(given["adt"], batch_key="src", key="dimred_bc", n_comps=8)
model = SpaMosaic(given, input_key="dimred_bc", batch_key="src", device="cpu")
model.train(net="wlgcn", n_epochs=3)
merged = model.infer_emb(given, emb_key="emb", final_latent_key="merged")
imputed = model.impute(given, emb_key="emb", layer_key="counts")
assert imputed["adt"][1].shape == (made["s2", "rna"].n_obs, 12)

from mosaic.pipeline import Pipeline
config = {
    "modalities": {"rna": {"kind": "rna", "n_comps": 8}, "adt": {"kind": "protein", "n_comps": 8}},
    "train": {"n_epochs": 3, "device": "cpu"},
    "cluster": {"n_domains": 2},
}
run = Pipeline.from_slices(made, config)
assert run.domains()["domain"].nunique() == 2
assert run.imputed("s2", "adt").n_obs == run.passed()["s2", "rna"].adata.n_obs
print(f"{len(modules)} modules imported; {sum(map(len, merged))} spots embedded")
"""


def build(source: Path, folder: Path, tools: Path) -> Path:
    """Build both distributions of ``source`` into ``folder``, with tools installed for that; returns the wheel.

    Raises
    ------
    subprocess.CalledProcessError
        If a build fails or a check finds a fault.
    SystemExit
        If the wheel lacks a file of the library, or has another.
    """
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(tools, with_pip=True)
    install(tools, "--requirement", str(REPOSITORY / "requirements-package.lock"))
    run = [tools / "bin" / "python", "-m"]
    subprocess.run([*run, "build", "--outdir", folder, source], check=True, stdout=subprocess.DEVNULL)
    (wheel,), made = folder.glob("*.whl"), list(folder.iterdir())
    subprocess.run([*run, "twine", "check", "--strict", *made], check=True)
    subprocess.run([*run, "check_wheel_contents", wheel], check=True)
    library = source / "scripts" / "mosaic"
    expected = {path.relative_to(library.parent).as_posix() for path in library.rglob("*") if path.is_file()}
    expected |= {f"mosaic/config/schemas/{path.name}" for path in (source / "workflow" / "schemas").iterdir()}
    if different := expected ^ {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}:
        sys.exit(f"{wheel.name} lacks or has too many: {', '.join(sorted(different))}")
    return wheel


def main(env: Path) -> None:
    """Install the package in the environment ``env`` and use it; raises CalledProcessError at what fails."""
    lock, stamp = REPOSITORY / "requirements.lock", env / "made-of"
    made_of = lock.read_text(encoding="utf-8") + (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != made_of:
        venv.create(env, with_pip=True, clear=True)
        # Alone and first, so that no other package pulls a build of its own choice.
        install(env, re.search(r"^torch==\S+$", lock.read_text(encoding="utf-8"), flags=re.MULTILINE).group())
    with tempfile.TemporaryDirectory() as folder:
        source, elsewhere = Path(folder) / "source", Path(folder) / "elsewhere"
        source.mkdir()
        elsewhere.mkdir()
        # A copy, as what a build leaves in its folder would be part of the next package.
        for part in PARTS:
            (source / part).parent.mkdir(exist_ok=True)
            if (REPOSITORY / part).is_dir():
                shutil.copytree(
                    REPOSITORY / part,
                    source / part,
                    symlinks=True,
                    ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
                )
            else:
                shutil.copy(REPOSITORY / part, source / part)
        wheel = build(source, env / "dist", Path(folder) / "tools")
        install(env, str(wheel), "--constraint", str(lock))
        install(env, str(wheel), "--no-deps", "--force-reinstall")  # the version stays, and the modules change
        stamp.write_text(made_of, encoding="utf-8")
        subprocess.run([env / "bin" / "python", "-I", "-c", USE], cwd=elsewhere, check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve())
