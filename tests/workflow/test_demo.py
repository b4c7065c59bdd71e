"""The demo from end to end, what a rerun runs, and what a user sees when something is wrong."""

import json
import os
import shutil
import subprocess
import sys

import browser
import mudata as md
import numpy as np
import pandas as pd
import pytest
import running
import scanpy as sc
from explorer_page import ExplorerPage
from running import stats

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(make_checkout):
    """The demo, run once with two cores; tests that change a file put it back."""
    checkout = make_checkout()
    done = checkout.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout


@pytest.fixture(scope="module")
def result(demo):
    return md.read_h5mu(demo.folder / "results" / "integrated.h5mu")


@pytest.fixture
def edited(demo):
    """Change a file of the checkout for one test."""
    kept = {}

    def edit(name, change):
        path = demo.folder / name
        kept[path] = path.read_text(), path.stat()
        path.write_text(change(path.read_text()))

    yield edit
    for path, (text, stat) in kept.items():
        path.write_text(text)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_domains_are_found(demo):
    metrics = pd.read_csv(demo.folder / "results/spamosaic/seed-1234/metrics.tsv", sep="\t")
    assert list(metrics.columns) == ["metric", "scope", "value", "direction"]
    values = metrics.set_index(["metric", "scope"])["value"]
    assert values["ARI", "all"] > 0.6
    assert values["ARI", "slice:s1"] > 0.7
    assert values["FOSCTTM (training pairs)", "s1:rna~adt"] < 0.1
    assert values["iLISI", "all"] > 0.2
    domains = pd.read_csv(demo.folder / "results/spamosaic/seed-1234/domains.tsv", sep="\t")
    assert domains.columns[:3].tolist() == ["spot", "slice", "domain"]
    assert domains["domain"].nunique() == 5


def test_result_holds_everything(demo, result):
    assert set(result.mod) == {"rna", "adt", "rna_imputed", "adt_imputed"}
    assert set(result.obs["slice"]) == {"s1", "s2", "s3"}
    assert {"X_latent", "X_umap", "X_spamosaic_1234", "spatial"} <= set(result.obsm)
    assert not np.isnan(result.obsm["spatial"]).any()
    counts = result["rna"].layers["counts"]
    assert (counts.data == np.round(counts.data)).all()
    assert set(result["rna"].obs_names) | set(result["adt"].obs_names) == set(result.obs_names)
    assert set(result["adt_imputed"].obs["slice"]) == {"s2"}
    assert {"imputed", "imputed_sd"} <= set(result["rna_imputed"].layers)
    assert result.obs["domain"].notna().all()
    config = json.loads(result.uns["mosaic"]["config"])
    assert config["train"]["lr"] == 0.01
    assert config["modalities"]["adt"]["normalization"] == "clr"


def test_vendors_browsers_get_the_domains(demo, result):
    for name in ("s1", "s2", "s3"):
        own = result.obs[result.obs["slice"] == name]
        loupe, xenium = (
            pd.read_csv(demo.folder / f"results/domains/{name}.{browser}.csv", dtype=str)
            for browser in ("loupe", "xenium")
        )
        assert loupe["Barcode"].tolist() == xenium["cell_id"].tolist() == own["barcode"].tolist()
        assert loupe["mosaic_domain"].tolist() == xenium["group"].tolist() == own["mosaic_domain"].tolist()


def test_result_becomes_spatial_data_where_its_environment_is(demo, result):
    python = running.REPOSITORY / ".venv-spatialdata" / "bin" / "python"
    if not python.exists():
        pytest.skip("the environment of spatialdata is not there: make .venv-spatialdata")
    given = ["export={spatialdata: true}", f"interpreters={{spatialdata: {python}}}"]
    done = demo.snakemake("results/integrated.zarr", "--rerun-triggers", "mtime", "--config", *given)
    assert done.returncode == 0, done.stdout + done.stderr
    count = "import spatialdata, sys; print(spatialdata.read_zarr(sys.argv[1]).tables['integrated'].n_obs)"
    path = demo.folder / "results/integrated.zarr"
    opened = subprocess.run([python, "-c", count, path], capture_output=True, text=True, check=True)
    assert int(opened.stdout) == result.n_obs


def test_result_opens_in_scanpy(result):
    rna = result["rna"].copy()
    rna.obs["mosaic_domain"] = result.obs.loc[rna.obs_names, "mosaic_domain"]
    sc.pp.normalize_total(rna)
    sc.pp.log1p(rna)
    sc.tl.rank_genes_groups(rna, "mosaic_domain", method="t-test")
    assert len(rna.uns["rank_genes_groups"]["names"]) == rna.n_vars


def test_imputed_protein_follows_the_truth(result):
    """A domain's imputed profile on s2 resembles the one measured on s1, better than the slice's mean does."""
    truth = result.obs["domain"]
    imputed = result["adt_imputed"].to_df("imputed").groupby(truth, observed=True).mean()
    measured = result["adt"][result["adt"].obs["slice"] == "s1"].to_df("counts").groupby(truth, observed=True).mean()
    measured = measured.loc[imputed.index, imputed.columns]
    error = np.abs(np.log1p(imputed) - np.log1p(measured)).to_numpy().mean()
    flat = np.abs(np.log1p(imputed.mean()) - np.log1p(measured)).to_numpy().mean()
    assert error < 0.8 * flat


def run_notebook(name: str, demo, figures) -> str:
    """What the cells of a notebook print, run as a user does in the folder of the run."""
    notebook = running.REPOSITORY / "docs" / "notebooks" / f"{name}.ipynb"
    script = running.REPOSITORY / "tests" / "helpers" / "run_notebook.py"
    done = subprocess.run(
        [sys.executable, script, notebook, figures],
        cwd=demo.folder,
        env=os.environ | {"PYTHONPATH": str(demo.folder / "scripts")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_notebook_of_the_demo_finds_what_the_workflow_found(demo, tmp_path):
    printed = run_notebook("run_the_demo", demo, tmp_path)
    assert "every spot has the domain that the workflow found: True" in printed
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_the_notebook_reads_the_results(demo, tmp_path):
    printed = run_notebook("read_the_results", demo, tmp_path)
    assert "MuData object with n_obs × n_vars = 3568" in printed
    assert len(list(tmp_path.glob("*.png"))) == 7


def test_qc_writes_down_what_it_dropped(demo):
    summary = json.loads((demo.folder / "results/qc/s1.rna.json").read_text())
    assert summary["spots_kept"] == summary["spots_in"] - len(summary["dropped_spots"])
    for reason in ("off tissue", "few counts", "mitochondrial"):
        assert summary["spots_dropped_by_reason"][reason] > 0


def test_training_writes_its_history_and_progress(demo):
    history = pd.read_csv(demo.folder / "results/spamosaic/seed-1234/history.tsv", sep="\t")
    assert history["epoch"].tolist() == list(range(1, 101))
    assert "s left" in (demo.folder / "results/logs/train/seed-1234.log").read_text()


def test_the_number_of_domains_is_chosen_and_drawn(demo, checkout):
    shutil.copytree(demo.folder, checkout.folder, dirs_exist_ok=True)
    config = checkout.folder / "config" / "config.yaml"
    config.write_text(config.read_text().replace("n_domains: 5", "n_domains: auto, n_domains_range: [4, 6]"))
    folder = "results/spamosaic/seed-1234"
    # In another folder the library has other paths, by which alone nothing is to be made anew.
    changed = [f"{folder}/figures/n_domains.png", "--rerun-triggers", "params"]
    assert checkout.would_run(*changed) == {"cluster", "name_domains", "plot_n_domains"}
    done = checkout.snakemake(*changed, cores=1)
    assert done.returncode == 0, done.stdout + done.stderr
    curve = pd.read_csv(checkout.folder / folder / "n_domains.tsv", sep="\t")
    assert curve["n_domains"].tolist() == [4, 5, 6]
    (number,) = curve.loc[curve["chosen"], "n_domains"]
    assert pd.read_csv(checkout.folder / folder / "domains.tsv", sep="\t")["domain"].nunique() == number
    assert not (demo.folder / folder / "n_domains.tsv").exists()


def test_a_slice_is_mapped_onto_the_demo(demo):
    """The demo's own s2 as if it were new: without training, its spots get the domains that they have in the demo."""
    done = demo.snakemake("results/reference/seed-1234", "--config", "export={reference: true}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = demo.folder / "mapped"
    folder.mkdir()
    (folder / "slices.tsv").write_text(f"slice\tmodality\tpath\nnew\trna\t{demo.folder}/data/demo/s2.rna.h5ad\n")
    reference = demo.folder / "results/reference/seed-1234"
    (folder / "config.yaml").write_text(f"slices: slices.tsv\nreference: {reference}\ntruth: domain\n")
    run = "results/spamosaic/seed-1234"
    wanted = ["results/integrated.h5mu", f"{run}/figures/checks.png", f"{run}/metrics.tsv", f"{run}/mapping.tsv"]
    done = demo.snakemake(*wanted, "--directory", str(folder), "--configfile", str(folder / "config.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not {"train", "reduce", "build_graph", "cluster"} & set(stats(done.stdout + done.stderr))
    here, there = (
        pd.read_csv(place / run / "domains.tsv", sep="\t", index_col="spot") for place in (folder, demo.folder)
    )
    there = there[there["slice"] == "s2"]["domain"].set_axis(
        there.index[there["slice"] == "s2"].str.removeprefix("s2:")
    )
    mapped = here["domain"].set_axis(here.index.str.removeprefix("new:"))
    assert (mapped == there.reindex(mapped.index)).mean() > 0.9
    checks = pd.read_csv(folder / run / "checks.tsv", sep="\t").set_index("check")
    assert checks.loc["mapping", "status"] == "pass"
    result = md.read_h5mu(folder / "results/integrated.h5mu")
    assert result["adt_imputed"].layers["imputed"].sum() > 0


def test_a_second_run_does_nothing(demo):
    assert demo.would_run() == set()


@pytest.mark.parametrize(
    ("change", "runs", "spares"),
    [
        ({"n_domains: 5": "n_domains: 4"}, {"cluster", "evaluate", "plot_domains", "export"}, {"embed", "impute"}),
        ({"T: 0.1": "T: 0.2"}, {"train", "embed", "cluster", "impute"}, {"build_graph", "reduce", "plot_qc"}),
        ({"truth: domain": "truth: null"}, {"evaluate", "plot_domains", "export"}, {"cluster", "train"}),
        ({"adt: {min_counts: 100}": "adt: {min_counts: 101}"}, {"qc", "reduce", "train"}, {"simulate_demo"}),
    ],
)
def test_a_changed_parameter_reruns_what_hangs_on_it(demo, edited, change, runs, spares):
    ((old, new),) = change.items()
    edited("config/config.yaml", lambda text: text.replace(old, new))
    would = demo.would_run()
    assert runs <= would
    assert not spares & would


def test_an_edited_module_reruns_the_rules_that_reach_it(demo, edited):
    edited("scripts/mosaic/analyse/domains.py", lambda text: text + "\n# edited\n")
    would = demo.would_run()
    assert {"cluster", "evaluate", "export"} <= would
    assert not {"train", "qc", "impute", "build_graph"} & would


def test_an_edited_module_below_another_reruns_too(demo, edited):
    edited("scripts/mosaic/integrate/losses.py", lambda text: text + "\n# edited\n")
    would = demo.would_run()
    assert {"train", "embed", "cluster"} <= would
    assert not {"build_graph", "qc"} & would


@pytest.fixture(scope="module")
def report(demo):
    done = demo.snakemake("--report", "report.html")
    assert done.returncode == 0, done.stdout + done.stderr
    return demo.folder / "report.html"


def test_the_report_holds_every_figure(demo, report):
    text = report.read_text()
    for name in ("0 Overview", "1 Input", "2 Integration", "3 Domains", "4 Imputation", "5 Metrics"):
        assert name in text
    assert len(text) < 25e6
    assert all(str(path.relative_to(demo.folder)) in text for path in (demo.folder / "results").rglob("figures/*.png"))


def test_a_browser_shows_the_first_page_and_every_entry(demo, report):
    with browser.opened(report) as reader:
        assert reader.faults == []
        first_page = reader.text()
        entries = reader.read_all()
    assert reader.faults == []
    figures = {
        str(path.relative_to(demo.folder))
        for ending in ("png", "html")
        for path in (demo.folder / "results").rglob(f"figures/*.{ending}")
    }
    assert set(entries) == figures | {"results/overview.html"}
    checks = pd.read_csv(demo.folder / "results/spamosaic/seed-1234/checks.tsv", sep="\t")
    for part in (
        *checks["check"],
        *(f"{value:.2f}" for value in checks["value"]),
        "3,568 spots of 3 slices, rna, adt: 5 domains",
        "1,184 of 1,519, 319 of which lie beside the tissue",
        "not measured, imputed",
        "Domains on tissue",
        "Latent space",
        "Markers of the domains",
        "Metrics",
        "n_domains 5",
        "torch ",
    ):
        assert part in first_page, part


def test_the_explorer_shows_the_run(demo, result, report):
    folder = demo.folder / "results/explorer"
    sizes = result.obs.groupby("mosaic_domain", observed=True).size()
    with browser.launched(*browser.SOFTWARE_GL) as chromium:
        shown = ExplorerPage(chromium, folder)
        assert shown.page.inner_text("h1") == f"3,568 spots of 3 slices: {len(sizes)} domains"
        legend = shown.page.locator(".legend li label").all_text_contents()
        assert legend == [f"{name}{size:,}" for name, size in sizes.items()]
        shown.find("CD21")
        captions = shown.page.locator(".panel .caption").all_text_contents()
        score = result["adt_imputed"].var.loc["CD21", "pearson_log"]
        assert captions[1:] == [
            f"{(result.obs['slice'] == 's1').sum():,} spots; measured",
            f"{(result.obs['slice'] == 's2').sum():,} spots; imputed: held-out r {score:.2f}",
            f"{(result.obs['slice'] == 's3').sum():,} spots; measured",
        ]
        assert shown.faults == []
    assert 'href="explorer/index.html"' in (demo.folder / "results/landing.html").read_text()
    assert 'href=\\"explorer/index.html\\"' in report.read_text() or 'href="explorer/index.html"' in report.read_text()


def test_faults_are_shown_at_once_before_any_job(checkout):
    (checkout.folder / "config/config.yaml").write_text("modalities: {rna: {kind: rnaa}}\ntrain: {lr: 1e-3}\n")
    done = checkout.snakemake()
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "4 faults in the configuration" in text
    for part in ("modalities.rna.kind", "'rnaa' is not known", "write 0.001", "'adt' is not in the config"):
        assert part in text
    assert "Traceback" not in text
    assert not (checkout.folder / "results").exists()


def test_a_data_fault_is_told_with_file_and_mend(checkout, raw_slice):
    raw = raw_slice()
    raw.X = raw.X.toarray() + 0.5
    raw.write_h5ad(checkout.folder / "bad.h5ad")
    (checkout.folder / "config/slices.tsv").write_text("slice\tmodality\tpath\ns1\trna\tbad.h5ad\n")
    done = checkout.snakemake()
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "InputError: bad.h5ad: X holds values that are no whole numbers, so these are no counts" in text
    assert "Hint: put the raw counts into" in text
    assert "Traceback" not in text
    assert "bad.h5ad" in (checkout.folder / "results/logs/qc/s1.rna.log").read_text()
