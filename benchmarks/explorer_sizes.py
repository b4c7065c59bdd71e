"""Sizes of the explorer: seconds until its first picture, and megabytes loaded before a feature is chosen.

    .venv/bin/python benchmarks/explorer_sizes.py OUT.tsv [SPOTS ...]

Opens made explorers from the disk in Chromium, with WebGL in software. Positions are random, as those of cells, which
pack worse than a grid. Needs Chromium and playwright (requirements-test.lock).
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import library  # noqa: F401
import numpy as np
import pandas as pd
from playwright.sync_api import sync_playwright
from scipy import sparse
from scipy.spatial import KDTree

from mosaic.figures import explorer, style
from mosaic.frame import Frame

PAGE = Path(__file__).parents[1] / "resources" / "explorer"
SIZES = (100_000, 1_000_000)
SOFTWARE_GL = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic")


def made_run(n_spots: int, slices: Sequence[str], domains: Sequence[str], seed: int = 0) -> ad.AnnData:
    """A run's spots, with domains that are regions of the tissue and islands of the UMAP."""
    rng = np.random.default_rng(seed)
    spatial = rng.uniform(0, 5000, (n_spots, 2)) * (1, 0.7)
    centres = rng.uniform(0, 5000, (3 * len(domains), 2)) * (1, 0.7)
    domain = KDTree(centres).query(spatial)[1] % len(domains)
    islands = rng.normal(0, 8, (len(domains), 2))
    obs = pd.DataFrame(
        {
            "slice": np.array(slices)[np.arange(n_spots) * len(slices) // n_spots],
            "barcode": [f"cell{number}" for number in range(n_spots)],
            "modalities": "rna",
            "mosaic_domain": np.array(domains)[domain],
            "consensus_spamosaic": np.array(domains)[domain],
            "confidence_spamosaic": rng.beta(8, 1, n_spots),
        }
    )
    obs.index = obs["slice"] + ":" + obs["barcode"]
    umap = islands[domain] + rng.normal(0, 1, (n_spots, 2))
    return with_colours(ad.AnnData(obs=obs, obsm={"spatial": spatial, "X_umap": umap}))


def with_colours(run: ad.AnnData) -> ad.AnnData:
    """Its domains as categories, with colours, as the workflow writes them."""
    for name in ("mosaic_domain", "consensus_spamosaic"):
        colours = style.palette(run.obs[name])
        run.obs[name] = pd.Categorical(run.obs[name], list(colours))
        run.uns[f"{name}_colors"] = list(colours.values())
    return run


def made_explorer(folder: Path, run: ad.AnnData, features: Sequence[str], imputed: Sequence[str] = ()) -> list:
    """Write the explorer of a made run, of which some slices are imputed; its panels.

    Odd features are high in odd domains, and the others noise. Held-out validation doubts the last.
    """
    rng = np.random.default_rng(1)
    odd = pd.factorize(run.obs["mosaic_domain"].astype(str), sort=True)[0] % 2
    parts = []
    for name in pd.unique(run.obs["slice"]):
        rows = np.flatnonzero(run.obs["slice"] == name)
        rates = 0.3 + 2.0 * odd[rows, None] * (np.arange(len(features)) % 2)
        values = sparse.csr_matrix(np.log1p(rng.poisson(rates)))
        parts.append(explorer.Part(rows, values, pd.Index(features), name in imputed))
    scores = pd.DataFrame({"pearson_log": 0.4, "better_than_mean": True}, index=list(features))
    scores.iloc[-1] = 0.01, False
    panels = [explorer.Panel("rna", "log of counts per 10,000", features, lambda _: parts, scores if imputed else None)]
    columns = explorer.columns(run, ["spamosaic"], [1234], None, {})
    slices = {name: explorer.Slice("", Frame(microns_per_unit=1.0)) for name in pd.unique(run.obs["slice"])}
    explorer.write(folder, [PAGE / "index.html", PAGE / "explorer.js"], run, columns, panels, slices)
    return panels


def measure(n_spots: int) -> dict[str, float]:
    """Seconds and megabytes of an explorer of so many spots."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        run = made_run(n_spots, ["s1", "s2"], [str(number) for number in range(12)])
        began = time.monotonic()
        made_explorer(Path(folder), run, [f"gene{number}" for number in range(4)])
        written = time.monotonic() - began
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=path, args=list(SOFTWARE_GL))
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        loaded = []
        page.on("request", lambda request: loaded.append(request.url))
        began = time.monotonic()
        page.goto((Path(folder) / "index.html").as_uri())
        page.wait_for_selector("body[data-drawn]", timeout=120_000)
        first = time.monotonic() - began
        files = {url.removeprefix("file://") for url in loaded if url.startswith("file:")}
        size = sum(Path(file).stat().st_size for file in files)
        began = time.monotonic()
        page.fill("#search input", "gene1")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-drawn='2']", timeout=120_000)
        feature = time.monotonic() - began
        files = {url.removeprefix("file://") for url in loaded if url.startswith("file:")} - files
        column = sum(Path(file).stat().st_size for file in files)
        browser.close()
    return {
        "spots": n_spots,
        "written_s": written,
        "first_picture_s": first,
        "loaded_mb": size / 1e6,
        "feature_s": feature,
        "feature_mb": column / 1e6,
    }


def main(out: str, sizes: Sequence[int]) -> None:
    """Measure all sizes."""
    table = pd.DataFrame([measure(size) for size in sizes]).round(2)
    table.to_csv(out, sep="\t", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1], [int(size) for size in sys.argv[2:]] or SIZES)
