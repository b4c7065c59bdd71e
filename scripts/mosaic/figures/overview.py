"""The page that the report opens with: what went in, what came out, how far to believe it, and what to look at."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from mosaic.figures.style import STATUS_STYLE

# The worst light comes first: what it advises is shown.
_WORST_FIRST = ("fail", "warn", "not checked", "pass")
# Of the packages that steps loaded, those shown.
_PACKAGES = (
    *("mosaic", "Python", "snakemake", "torch", "scanpy", "anndata", "mudata", "scikit-learn", "harmonypy"),
    *("faiss-cpu", "igraph", "leidenalg", "numba", "numpy", "scipy", "pandas"),
    *("spamosaic", "mofapy2", "scvi-tools", "scmomat"),
)

# What to look for in each of the figures that matter, and what a bad one looks like.
FIGURES = {
    "domains": (
        "Domains on tissue",
        "Good: coherent regions that recur in slices of the same tissue. Bad: salt and pepper, or a domain that fills "
        "one slice and no other.",
    ),
    "latent": (
        "Latent space",
        "Good: slices and modalities mix, domains part. Bad: an island of one slice, or of one set of modalities: "
        "these spots were not integrated.",
    ),
    "markers": (
        "Markers of the domains",
        "Good: each domain has features that are dark and large in its own column alone. Bad: columns that look alike; "
        "their domains are one to this modality.",
    ),
    "imputed": (
        "Imputed features",
        "Good: the imputed map follows the anatomy as the measured one does. Bad: a flat map, or one that follows "
        "nothing.",
    ),
    "metrics": (
        "Metrics",
        "Good: iLISI well above 0, FOSCTTM of held-out pairs near 0 and, where the truth is known, ARI near 1. Bad: "
        "iLISI near 0, as slices lie apart, or FOSCTTM of held-out pairs near 0.5, which is chance; of the pairs that "
        "training saw it is near 0 either way.",
    ),
}

# In Snakemake's report this stands in a narrow column beside the graph of the rules; the column is widened, and the
# graph goes below.
_STYLE = """
div:has(> div > .prose .mosaic-overview) { flex-direction: column; }
div:has(> div > div > .prose .mosaic-overview) { align-items: flex-start; }
.prose:has(.mosaic-overview) { max-width: 62rem; }
.mosaic-overview { font: 14px/1.45 system-ui, sans-serif; color: #262626; max-width: 62rem; }
.mosaic-overview h1 { font-size: 22px; font-weight: 700; margin: 0 0 4px; }
.mosaic-overview h2 { font-size: 17px; font-weight: 700; margin: 26px 0 6px; }
.mosaic-overview h3 { font-size: 14px; font-weight: 700; margin: 16px 0 2px; }
.mosaic-overview p { margin: 0 0 6px; }
.mosaic-overview ul { list-style: disc; margin: 0 0 6px 18px; padding: 0; }
.mosaic-overview table { border-collapse: collapse; font-size: inherit; color: inherit; }
.mosaic-overview th, .mosaic-overview td { padding: 5px 12px 5px 6px; text-align: left; vertical-align: top;
  border-bottom: 1px solid #DDD; }
.mosaic-overview th { font-weight: 700; }
.mosaic-overview th small { font-weight: 400; }
.mosaic-overview small { color: #666; font-size: 12px; }
.mosaic-overview td.measured { background: #E1EEF7; }
.mosaic-overview td.lacking { background: #F6F6F6; color: #666; font-style: italic; }
.mosaic-overview .few { background: #FBE9C6; white-space: pre-line; }
.mosaic-overview .light { display: inline-block; width: 22px; height: 22px; border-radius: 11px; color: white;
  font-weight: 700; text-align: center; line-height: 22px; margin-right: 6px; }
.mosaic-overview td.number { white-space: nowrap; }
.mosaic-overview img { max-width: 100%; max-height: 640px; margin: 4px 0; }
.mosaic-overview pre { font: 12px/1.4 monospace; background: #F6F6F6; color: #262626; padding: 8px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.mosaic-overview summary { cursor: pointer; }
"""


def overview(
    counts: Mapping[tuple[str, str], Mapping],
    shared: Mapping[str, Sequence],
    corrections: Mapping[str, Mapping],
    checks: Mapping[tuple[str, int], pd.DataFrame],
    domains: pd.DataFrame,
    figures: Mapping[str, str | Path],
    config: Mapping,
    versions: Mapping[tuple[str, str], Mapping[str, str]],
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The page as HTML that needs nothing beside itself; whatever comes from the user is text in it.

    Parameters
    ----------
    counts
        Per slice and modality the summary of its quality control, as ``qc`` writes it.
    shared
        ``spots`` and ``features``, the rows of the tables of ``pairing.Comparison``, and ``warnings``, its texts.
    corrections
        Per modality what batch correction did, as ``batch_correction.Correction.record``; its iLISI None of one slice.
    checks
        Per method and seed its checks, as ``checks.run_checks`` gives them.
    domains
        ``domain`` of each spot, of the first run.
    figures
        PNG files by their names in ``FIGURES``, of the first run; may be none.
    config
        The configuration with all defaults.
    versions
        Per rule and job those it ran with, by package, as ``logs.job_log`` records them.
    columns
        Further columns of the sheet: per name the text of each slice that has one.

    Returns
    -------
    A fragment: it stands by itself in a browser, and inside another page.
    """
    slices = list(dict.fromkeys(name for name, _ in counts))
    modalities = list(dict.fromkeys(modality for _, modality in counts))
    n_domains = domains["domain"].nunique()
    n_spots = f"{len(domains):,} spots of {_many(len(slices), 'slice')}"
    head = f"{n_spots}, {', '.join(modalities)}: {_many(n_domains, 'domain')}"
    imputed = [f"{m} of {s}" for s in slices for m in modalities if (s, m) not in counts]
    first_method, first_seed = next(iter(checks))
    out = [
        f"one latent space for {n_spots}, and {_many(n_domains, 'domain')}"
        + (f" (shown here: {first_method}, seed {first_seed}, of {len(checks)} runs)" if len(checks) > 1 else ""),
        f"imputed counts: {', '.join(imputed) if imputed else 'none, as every slice measured every modality'}",
        "everything in integrated.h5mu, which mudata and muon read",
    ]
    return "\n".join(
        [
            f'<style>{_STYLE}</style><div class="mosaic-overview not-prose">',
            f"<h1>{escape(head)}</h1>",
            "<p>Everything else is one click away in the menu, in the order of the chain.</p>",
            "<h2>Can it be believed?</h2>",
            _lights(checks),
            "<h2>What went in</h2>",
            "<p>Spots kept by quality control, by slice and modality; spots that a slice's modalities share, and "
            "features that the slices of a modality share, of those that the smaller has.</p>",
            _grid(counts, shared, slices, modalities, config, columns or {}),
            *(f'<p class="few">{escape(warning)}</p>' for warning in shared["warnings"]),
            "<h2>Batch correction</h2>",
            "<p>How evenly slices mix in the features of each modality (iLISI: 0 apart, 1 evenly mixed), and how far "
            "spots moved, in units of their spread.</p>",
            _corrections(corrections),
            "<h2>What came out</h2>",
            f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in out)}</ul>",
            *(["<h2>Figures to look at</h2>"] if figures else []),
            *(_figure(name, path) for name, path in figures.items()),
            "<h2>Settings and versions</h2>",
            _settings(config, versions),
            "</div>\n",
        ]
    )


def _versions(versions: Mapping[tuple[str, str], Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """Packages with the version that all steps had, and those of which steps had several, with the steps of each."""
    alike, different = [], []
    for package in _PACKAGES:
        jobs: dict[str, list[tuple[str, str]]] = {}
        for job, own in versions.items():
            if package in own:
                jobs.setdefault(own[package], []).append(job)
        if len(jobs) == 1:
            alike.append(f"{package} {next(iter(jobs))}")
        elif jobs:
            different.append(", ".join(f"{package} {version} ({_steps(own, jobs)})" for version, own in jobs.items()))
    return alike, different


def _steps(own: Sequence[tuple[str, str]], jobs: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """The rules of some jobs; with the jobs' names where other jobs of the rule had another version."""
    named = []
    for rule in dict.fromkeys(rule for rule, _ in own):
        whole = sum(any(name == rule for name, _ in others) for others in jobs.values()) == 1
        named.append(rule if whole else f"{rule} {' and '.join(job for name, job in own if name == rule)}")
    return ", ".join(named)


def _lights(checks: Mapping[tuple[str, int], pd.DataFrame]) -> str:
    """A row per check, with a light and a number for each run."""
    runs = {run: table.set_index("check") for run, table in checks.items()}
    several = len(runs) > 1
    rows = [["Check", *(f"{method}, seed {seed}" if several else "Result" for method, seed in runs), "What it says"]]
    rows[0] = [f"<th>{escape(cell)}</th>" for cell in rows[0]]
    for check in next(iter(runs.values())).index:
        results = [table.loc[check] for table in runs.values()]
        worst = min(results, key=lambda result: _WORST_FIRST.index(result["status"]))
        bounds = f"{worst['meaning']}; passes {worst['good']}, fails {worst['bad']}"
        cells = [f"<td><b>{escape(check)}</b><br><small>{escape(bounds)}</small></td>"]
        for result in results:
            colour, sign = STATUS_STYLE[result["status"]]
            value = "" if pd.isna(result["value"]) else f"{result['value']:.2f}"
            light = f'<span class="light" style="background: {colour}">{sign}</span>'
            cells.append(f'<td class="number">{light}<b>{value}</b> {escape(result["status"])}</td>')
        rows.append([*cells, f"<td>{escape(worst['advice'])}</td>"])
    return _table(rows)


def _grid(
    counts: Mapping[tuple[str, str], Mapping],
    shared: Mapping[str, Any],
    slices: Sequence[str],
    modalities: Sequence[str],
    config: Mapping,
    columns: Mapping[str, Mapping[str, str]],
) -> str:
    """Slices x modalities: spots kept of those that the file had; beside it the spots paired, below it the features.

    What the sheet says of a slice stands before its spots.
    """
    pairs: dict[str, list[Mapping]] = {}
    features = {row["modality"]: row for row in shared["features"]}
    few_below = shared["few_below"]
    for row in shared["spots"]:
        pairs.setdefault(row["slice"], []).append(row)
    kinds = (
        f"{escape(name)}<br><small>kind {escape(config['modalities'][name]['kind'])}</small>" for name in modalities
    )
    heads = ["Slice", *map(escape, columns), *kinds]
    head = "<th>Spots paired</th>" if pairs else ""
    rows = [[*(f"<th>{text}</th>" for text in heads), head]]
    for name in slices:
        cells = [f"<td><b>{escape(name)}</b></td>"]
        cells += [f"<td>{escape(told.get(name, ''))}</td>" for told in columns.values()]
        for modality in modalities:
            summary = counts.get((name, modality))
            if summary is None:
                cells.append('<td class="lacking">not measured, imputed</td>')
                continue
            beside = summary["spots_dropped_by_reason"].get("off tissue", 0)
            note = f"of {summary['spots_in']:,}" + (f", {beside:,} of which lie beside the tissue" if beside else "")
            cells.append(f'<td class="measured"><b>{summary["spots_kept"]:,}</b> <small>{note}</small></td>')
        own = pairs.get(name, [])
        names = [f"{row['first']} + {row['second']} " if len(modalities) > 2 else "" for row in own]
        paired = (
            escape(label) + _part(row["shared"], row["smaller"], few_below)
            for label, row in zip(names, own, strict=True)
        )
        rows.append([*cells, f"<td>{'<br>'.join(paired)}</td>" if pairs else ""])
    if features:
        cells = [
            f"<td>{_part(features[m]['shared'], features[m]['smallest'], few_below)}</td>"
            if m in features
            else "<td></td>"
            for m in modalities
        ]
        blank = ["<td></td>"] * len(columns)
        rows.append(["<td><b>Features shared</b></td>", *blank, *cells, "<td></td>" if pairs else ""])
    return _table(rows)


def _corrections(corrections: Mapping[str, Mapping]) -> str:
    """A row per modality; features in which slices lie apart are marked."""
    rows = [[f"<th>{head}</th>" for head in ("Modality", "By", "iLISI before", "iLISI after", "Moved", "Rounds")]]
    for name, record in corrections.items():
        alone = record["ilisi_after"] is None
        few = ' class="few"' if record["apart"] else ""
        method = {"none": "not corrected", "harmony": "Harmony", "pair_shift": "pair shift"}[record["method"]]
        cells = [f"<td><b>{escape(name)}</b></td>", f"<td>{'one slice' if alone else method}</td>"]
        cells += ["<td></td>"] * 2 if alone else [f"<td>{record['ilisi_before']:.2f}</td>"]
        cells += [] if alone else [f"<td{few}>{record['ilisi_after']:.2f}</td>"]
        rows.append([*cells, f"<td>{record['moved']:.2f}</td>", f"<td>{record.get('rounds', '')}</td>"])
    return _table(rows)


def _part(shared: int, smaller: int, few_below: float) -> str:
    """How many are shared of how many, marked where the share is below ``few_below``."""
    kind = ' class="few"' if shared < few_below * smaller else ""
    return f"<span{kind}><b>{shared:,}</b> <small>of {smaller:,}</small></span>"


def _figure(name: str, path: str | Path) -> str:
    title, advice = FIGURES[name]
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return f'<h3>{title}</h3><p>{advice}</p><img alt="{title}" src="data:image/png;base64,{data}">'


def _settings(config: Mapping, versions: Mapping[tuple[str, str], Mapping[str, str]]) -> str:
    """The settings that most change a result, versions, and on demand the whole configuration."""
    alike, different = _versions(versions)
    cluster, train, graph = config["cluster"], config["train"], config["graph"]
    size = {key: cluster[key] for key in ("n_domains", "resolution") if cluster[key] is not None}
    rows = {
        "sheet of slices": config["slices"],
        "recipe": config["recipe"],
        "methods": ", ".join(config["methods"]),
        "seeds": ", ".join(map(str, config["seeds"])),
        "training": f"T {train['T']}, lr {train['lr']}, n_epochs {train['n_epochs'] or 'by size'}",
        "graph": f"intra_knns {graph['intra_knns']}, inter_knn_base {graph['inter_knn_base']}, w_g {graph['w_g']}",
        "clustering": ", ".join([cluster["method"], *(f"{key} {value}" for key, value in size.items())]),
        "imputation": f"{config['impute']['method']}, {config['impute']['n_neighbors']} neighbours",
        "truth": config["truth"] or "none",
        "versions": ", ".join(alike),
        **({"versions that differ between steps": "; ".join(different)} if different else {}),
    }
    whole = escape(json.dumps(config, indent=1, ensure_ascii=False))
    table = _table([[f"<td>{escape(key)}</td>", f"<td>{escape(str(value))}</td>"] for key, value in rows.items()])
    return f"{table}\n<details><summary>All settings, defaults included</summary><pre>{whole}</pre></details>"


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "<table>\n" + "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows) + "\n</table>"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
