"""Names and files that attack: a run that works on them, and refusals that a user can read."""

import json
from pathlib import Path
from xml.etree import ElementTree

import anndata as ad
import browser
import mudata as md
import numpy as np
import pandas as pd
import pytest
from docutils import nodes
from docutils.core import publish_doctree
from explorer_page import ExplorerPage
from jinja2 import Template
from matplotlib.image import imread
from running import REPOSITORY

# Names with slashes are what a future anndata refuses to write; today users have them.
pytestmark = pytest.mark.filterwarnings("ignore:Forward slashes:FutureWarning")

MARKER = "OWNED"
SCRIPT = f"</script><script>document.title='{MARKER}'</script>"
NAMES = [
    SCRIPT,
    f"<img src=x onerror=document.title='{MARKER}'>",
    "a/b",
    "../../up",
    "/tmp/away",
    "$E_{1}$",
    "$x",
    "'\"`",
    "Ωж日\u202e",
    "new\nline\ttab\r",
    "\x1b[31mred",
    "x" * 300,
    "NA",
    "nan",
    "_hidden",
    "{wildcards.slice}",
    "; touch owned #",
    "",
]
CONFIG = {
    "modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}},
    "graph": {"intra_knns": 4, "inter_knn_base": 4},
    "train": {"n_epochs": 3},
    "cluster": {"n_domains": 2},
    "checks": {"imputation": False},
    "truth": "a/b `$x$' \" &amp;",
    "keep_obs": ["a/b", "../../up", "$x", "x" * 300, "; touch owned #"],
    "qc": {"rna": {"mito_prefix": SCRIPT}},
    "domains": {"names": {"0": "O'Hara \\ \" &amp; $x$ `é`", "1": "; touch owned #"}},
    "conditions": {"column": "donor"},
}
# What the sheet may say of a slice: anything without < > { and }.
DONOR = "O'Hara \\ \" &amp; $x$ `é`"


# The result, and all that shows names other than those of slices and modalities.
TARGETS = (
    "results/integrated.h5mu",
    "results/explorer",
    "results/overview.html",
    "results/spamosaic/seed-1234/metrics.tsv",
    "results/spamosaic/seed-1234/figures/domains.png",
    "results/spamosaic/seed-1234/figures/imputed.NA.adt.png",
    "results/spamosaic/seed-1234/figures/markers.rna.png",
    *(
        f"results/spamosaic/seed-1234/figures/compared_{name}.png"
        for name in ("composition", "features.rna", "neighbours")
    ),
    "results/figures/spatial.rna.png",
    "results/figures/colocalisation.png",
)


def hostile_slice(seed: int) -> ad.AnnData:
    """A slice of two domains that has each of the names as barcode, feature, true domain and, but for two, column."""
    rng = np.random.default_rng(seed)
    names = NAMES + [f"{number}" for number in range(60 - len(NAMES))]
    domain = np.arange(60) // 30
    adata = ad.AnnData(rng.poisson(1 + 3 * (np.arange(40) % 2 == domain[:, None])).astype(np.float32))
    adata.obs_names, adata.var_names = names, names[:40]
    adata.obs = pd.DataFrame({name: "1" for name in NAMES if name and name[0] != "/"}, index=adata.obs_names)
    adata.obs[CONFIG["truth"]] = np.array(NAMES)[np.arange(60) % 2 + 2 * domain]
    adata.obsm["spatial"] = np.array([(number % 6, number // 6) for number in range(60)], dtype=float)
    return adata


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def hostile(make_checkout):
    """A finished run on hostile names, what it wrote outside its folders, and its report."""
    checkout = make_checkout()
    rows = ["# <script>", "slice\tmodality\tpath\tdonor"]
    for number, (name, modality, donor) in enumerate((("001", "rna", DONOR), ("001", "adt", ""), ("NA", "rna", "007"))):
        path = Path(f"user/{number} 'q' \" $HOME * é.h5ad")
        (checkout.folder / path).parent.mkdir(parents=True, exist_ok=True)
        hostile_slice(number).write_h5ad(checkout.folder / path)
        rows.append(f"{name}\t{modality}\t{path}\t{donor}")
    (checkout.folder / "config/slices.tsv").write_text("\n".join(rows), encoding="utf-8")
    (checkout.folder / "config/config.yaml").write_text(json.dumps(CONFIG))
    before = files_in(checkout.folder.parent)
    done = checkout.snakemake(*TARGETS)
    assert done.returncode == 0, done.stdout + done.stderr
    done = checkout.snakemake(*TARGETS, "--report", "results/report.html")
    assert done.returncode == 0, done.stdout + done.stderr
    here = checkout.folder.name
    written = files_in(checkout.folder.parent) - before
    # Compiled parts of the library are kept beside it, by names of its own.
    own = tuple(f"{here}/{folder}" for folder in ("results", ".snakemake", "scripts/mosaic/__pycache__"))
    checkout.outside = {path for path in written if not path.startswith(own)}
    return checkout


@pytest.mark.slow
def test_every_name_reaches_the_result_as_it_was(hostile):
    result = md.read_h5mu(hostile.folder / "results/integrated.h5mu")
    for modality in ("rna", "adt", "adt_imputed"):
        assert result[modality].var_names[: len(NAMES)].tolist() == NAMES
    assert {f"{name}:{barcode}" for name in ("001", "NA") for barcode in NAMES} <= set(result.obs_names)
    assert set(result.obs[CONFIG["truth"]]) == set(NAMES[:4])
    for obs in (result.obs, result["rna"].obs):
        assert set(NAMES) & set(obs) == set(CONFIG["keep_obs"])
    assert set(result.obs["mosaic_domain"]) == set(CONFIG["domains"]["names"].values())
    donors = result.obs[["slice", "donor"]].astype(str).drop_duplicates().to_numpy().tolist()
    assert donors == [["001", DONOR], ["NA", "007"]]


@pytest.mark.slow
def test_nothing_is_written_outside_the_results(hostile):
    assert hostile.outside == set()


@pytest.mark.slow
def test_figures_keep_their_size_and_hold_text_alone(hostile):
    for path in (hostile.folder / "results").rglob("figures/*.svg"):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert "text" in tags
        assert not tags & {"script", "img", "foreignObject"}, path
        height, width, _ = imread(path.with_suffix(".png")).shape
        assert max(height, width) < 2500, path


@pytest.mark.slow
def test_the_report_runs_no_script_of_a_name(hostile):
    report = hostile.folder / "results/report.html"
    assert SCRIPT not in report.read_text()
    with browser.opened(report) as reader:
        assert "Tissue sections profiled for different subsets" in reader.text()
        assert SCRIPT in reader.page.text_content("#app")  # the first page shows all settings, as text
        assert DONOR in reader.page.text_content("#app")
        assert "results/overview.html" in reader.read_all()
        assert reader.page.title() == "Snakemake Report"
    assert reader.faults == []


@pytest.mark.slow
def test_the_explorer_shows_every_name_as_text(hostile):
    with browser.launched(*browser.SOFTWARE_GL) as chromium:
        shown = ExplorerPage(chromium, hostile.folder / "results/explorer")
        typed = {"</script>": SCRIPT, "$e_{1}": "$E_{1}$", "[31mred": "\x1b[31mred", "new": "new\nline\ttab\r"}
        for part, name in typed.items():
            shown.find(part)
            assert shown.page.locator(".legend h3").first.text_content().startswith(name)
        with shown.drawing():
            shown.page.select_option("#column", "truth")
        labels = shown.page.locator(".legend").first.locator("li label span:nth-of-type(2)").all_text_contents()
        assert set(labels) == set(NAMES[:4])
        assert DONOR in shown.page.locator(".panel .note").all_text_contents()[1]
        assert shown.page.title() == "Explorer: 120 spots of 2 slices: 2 domains"
        assert shown.faults == []


def test_hostile_settings_are_refused_before_any_job(checkout):
    config = CONFIG | {"truth": SCRIPT, "modalities": {"../rna": {"kind": "rna"}, "\x1b[31m": {"kind": "rna"}}}
    (checkout.folder / "config/config.yaml").write_text(json.dumps(config))
    rows = [
        f"{SCRIPT}\trna\ta.h5ad",
        f"s1\trna\t{SCRIPT}.h5ad",
        f"{'s' * 101}\trna\tb{{x}}.h5ad",
        "\x1b[31m\trna\tc.h5ad",
    ]
    (checkout.folder / "config/slices.tsv").write_text("\n".join(["slice\tmodality\tpath", *rows]))
    before = files_in(checkout.folder)
    done = checkout.snakemake()
    text = done.stdout + done.stderr
    assert done.returncode == 1
    for part in (
        "config key truth: ",
        "'../rna' is not valid",
        r"'\x1b[31m' is not valid",
        'line 2: slice "</script>',
        'line 3: path "</script>',
        "line 4: slice 'sss",
        "line 4: path 'b{x}.h5ad' is not valid",
        r"line 5: slice '\x1b[31m' is not valid",
    ):
        assert part in text, text
    assert "Traceback" not in text
    assert "\x1b[31m" not in text
    assert not {path for path in files_in(checkout.folder) - before if not path.startswith(".snakemake")}


def test_names_in_a_data_fault_leave_the_terminal_alone(checkout):
    raw = hostile_slice(0)
    raw.var_names = ["\x1b[2Jgone\n"] * 40
    raw.write_h5ad(checkout.folder / "bad.h5ad")
    (checkout.folder / "config/slices.tsv").write_text("slice\tmodality\tpath\ns1\trna\tbad.h5ad\n")
    (checkout.folder / "config/config.yaml").write_text(json.dumps(CONFIG | {"conditions": {}}))
    done = checkout.snakemake()
    text = done.stdout + done.stderr
    assert r"InputError: bad.h5ad: 1 duplicate feature name: \x1b[2Jgone\n" in text
    assert "\x1b[2J" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a list\n", "Config file must be"),
        ("just words\n", "Config file must be"),
        ("a: [open\n", "config/config.yaml, line 2, column 1: is no YAML"),
        ("a: 1\n\tb: 2\n", "config/config.yaml, line 2, column 1: is no YAML"),
    ],
)
def test_a_config_that_is_no_mapping(checkout, text, problem):
    (checkout.folder / "config/config.yaml").write_text(text)
    done = checkout.snakemake("--dry-run")
    assert done.returncode == 1
    assert problem in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(("caption", "key"), [("workflow", "slices"), ("domains", "truth")])
@pytest.mark.parametrize(
    "name", ["a``, javascript:x ``b", " javascript:x", ") javascript:x", "`a`_", "|a| *b", "a\\", "''", "`"]
)
def test_a_setting_in_a_text_of_the_report_is_no_markup(caption, key, name):
    template = Template((REPOSITORY / f"workflow/report/{caption}.rst").read_text())
    given = {"modalities": {}, "seeds": [], "cluster": {}, "figures": {"image": False}, key: name}
    text = template.render(snakemake={"config": given, "wildcards": {"method": "m", "seed": 1}})
    tree = publish_doctree(text, settings_overrides={"report_level": 5})
    for markup in (nodes.reference, nodes.problematic, nodes.raw):
        assert not list(tree.findall(markup)), text
    assert name.replace("`", "'").strip() in [literal.astext() for literal in tree.findall(nodes.literal)]


def test_a_sheet_whose_name_holds_markup_of_the_report_is_refused(checkout):
    name = f"\u2028\u2028.. raw:: html\u2028\u2028   <img src=x onerror=document.title='{MARKER}'>\u2028\u2028"
    (checkout.folder / name).write_text((checkout.folder / "config/slices.tsv").read_text())
    (checkout.folder / "config/config.yaml").write_text(json.dumps(CONFIG | {"slices": name}))
    done = checkout.snakemake("--dry-run")
    assert done.returncode == 1
    assert r'config key slices: "\u2028\u2028.. raw:: html' in done.stdout + done.stderr
