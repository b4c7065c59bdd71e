"""The page that the report opens with: what went in, what came out, how far to believe it, and what to look at."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mosaic.config.figures import FIGURES
from mosaic.figures.pages import render
from mosaic.figures.style import STATUS_STYLE

# The worst light comes first: what it advises is shown.
_WORST_FIRST = ("fail", "warn", "not checked", "pass")
# Of the packages that steps loaded, those shown.
_PACKAGES = (
    *("mosaic", "Python", "snakemake", "torch", "scanpy", "anndata", "mudata", "scikit-learn", "harmonypy"),
    *("faiss-cpu", "igraph", "leidenalg", "numba", "numpy", "scipy", "pandas"),
    *("spamosaic", "mofapy2", "scvi-tools", "scmomat", "scmidas", "cellcharter"),
)


def overview(
    template: str | Path,
    counts: Mapping[tuple[str, str], Mapping],
    shared: Mapping[str, Sequence],
    corrections: Mapping[str, Mapping],
    checks: Mapping[tuple[str, int], pd.DataFrame],
    domains: pd.DataFrame,
    figures: Mapping[str, str | Path],
    config: Mapping,
    versions: Mapping[tuple[str, str], Mapping[str, str]],
    columns: Mapping[str, Mapping[str, str]] | None = None,
    onto: Mapping[str, Any] | None = None,
) -> str:
    """The page as HTML that needs nothing beside itself; whatever comes from the user is text in it.

    Parameters
    ----------
    template
        ``workflow/report/overview.html.j2``.
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
        Files of the first run, PNG or HTML of ``pages.render``, by their names in ``config.figures.FIGURES``; may be
        none.
    config
        The configuration with all defaults.
    versions
        Per rule and job those it ran with, by package, as ``logs.job_log`` records them.
    columns
        Further columns of the sheet: per name the text of each slice that has one.
    onto
        ``reference.json`` of the reference that the slices were mapped onto; None for a run of its own.

    Returns
    -------
    A fragment: it stands by itself in a browser, and inside another page.
    """
    slices = list(dict.fromkeys(name for name, _ in counts))
    kinds = {modality: config["modalities"][modality]["kind"] for _, modality in counts}
    spots = f"{len(domains):,} spots of {_many(len(slices), 'slice')}"
    # A spot that lies too far from a reference is in no domain.
    n_domains = _many(domains.loc[domains["domain"] >= 0, "domain"].nunique(), "domain")
    several = len(checks) > 1
    # What the new slices of a mapping lack is imputed from the counts of the reference.
    imputable = onto["counts"] if onto else list(kinds)
    lacking = [(name, modality) for name in slices for modality in imputable if (name, modality) not in counts]
    return render(
        template,
        title=f"{spots}, {', '.join(kinds)}: {n_domains}",
        runs=[f"{method}, seed {seed}" if several else "Result" for method, seed in checks],
        checks=list(_checks(checks)),
        columns=list(columns or {}),
        kinds=kinds,
        has_pairs=bool(shared["spots"]),
        slices=[_slice(name, list(kinds), counts, shared, columns or {}) for name in slices],
        features={row["modality"]: _part(row, "smallest", shared) for row in shared["features"]},
        warnings=shared["warnings"],
        corrections=corrections,
        onto=bool(onto),
        results=_results(spots, n_domains, lacking, checks),
        figures=[_figure(name, Path(path)) for name, path in figures.items()],
        # Where the page has its figures it lies in the folder of the results; elsewhere in a frame, whose links fail.
        explorer_linked=bool(figures),
        settings=_reference(config, onto) | _settings(config, versions),
        config=json.dumps(config, indent=1, ensure_ascii=False),
    )


def _results(
    spots: str, n_domains: str, lacking: Sequence[tuple[str, str]], runs: Iterable[tuple[str, int]]
) -> list[str]:
    """What the run gives, in sentences."""
    (method, seed), *others = runs
    shown = f" (shown here: {method}, seed {seed}, of {len(others) + 1} runs)" if others else ""
    imputed = ", ".join(f"{modality} of {name}" for name, modality in lacking)
    return [
        f"one latent space for {spots}, and {n_domains}{shown}",
        f"imputed counts: {imputed or 'none: the slices lack no modality of which there are counts'}",
        "everything in integrated.h5mu, which mudata and muon read",
    ]


def _checks(checks: Mapping[tuple[str, int], pd.DataFrame]) -> Iterator[dict[str, Any]]:
    """A row per check, with a light and a number for each run."""
    runs = [table.set_index("check") for table in checks.values()]
    for check in runs[0].index:
        results = [table.loc[check] for table in runs]
        worst = min(results, key=lambda result: _WORST_FIRST.index(result["status"]))
        lights = []
        for result in results:
            colour, sign = STATUS_STYLE[result["status"]]
            value = "" if pd.isna(result["value"]) else f"{result['value']:.2f}"
            lights.append({"colour": colour, "sign": sign, "value": value, "status": result["status"]})
        bounds = f"{worst['meaning']}; passes {worst['good']}, fails {worst['bad']}"
        yield {"name": check, "bounds": bounds, "results": lights, "advice": worst["advice"]}


def _slice(
    name: str,
    modalities: Sequence[str],
    counts: Mapping[tuple[str, str], Mapping],
    shared: Mapping[str, Any],
    columns: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """A row of the grid of slices x modalities: what the sheet says of the slice, its spots, and its pairs."""
    spots = []
    for summary in (counts.get((name, modality)) for modality in modalities):
        # Beside the tissue: a part of what was dropped.
        spots.append(
            None
            if summary is None
            else {
                "kept": summary["spots_kept"],
                "found": summary["spots_in"],
                "beside": summary["spots_dropped_by_reason"].get("off tissue", 0),
                "controls": _controls(summary.get("controls", {})),
            }
        )
    pairs = [
        {"label": f"{row['first']} + {row['second']} " if len(modalities) > 2 else "", **_part(row, "smaller", shared)}
        for row in shared["spots"]
        if row["slice"] == name
    ]
    told = [own.get(name, "") for own in columns.values()]
    return {"name": name, "columns": told, "spots": spots, "pairs": pairs}


def _controls(controls: Mapping[str, int]) -> str:
    """Features that are controls, and were set apart when the slice was read; empty without any."""
    return f"{_many(len(controls), 'control')} set apart, with {sum(controls.values()):,} counts" if controls else ""


def _part(row: Mapping[str, Any], smaller: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    """How many are shared of how many, and whether these are few."""
    few = row["shared"] < shared["few_below"] * row[smaller]
    return {"shared": row["shared"], "smaller": row[smaller], "few": few}


def _figure(name: str, path: Path) -> dict[str, Any]:
    """Title, advice, and the picture, or the table that ``pages.render`` made."""
    shown = FIGURES[name].first_page
    if shown is None:
        raise ValueError(f"{name} is not a figure of the first page")
    text = {"title": shown.title, "advice": shown.advice}
    if path.suffix == ".html":
        return text | {"table": path.read_text(encoding="utf-8")}
    return text | {"png": base64.b64encode(path.read_bytes()).decode()}


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


def _reference(config: Mapping, onto: Mapping[str, Any] | None) -> dict[str, str]:
    """Which reference it was, of which slices and software, and what its own checks said."""
    if not onto:
        return {}
    slices = ", ".join(f"{name} ({', '.join(own)})" for name, own in onto["slices"].items())
    checks = ", ".join(f"{check['check']} {check['status']}" for check in onto["checks"])
    version = onto["versions"].get("mosaic", onto["version"])
    mapping = config["mapping"]
    return {
        "reference": f"{config['reference']}, of mosaic {version}, seed {onto['seed']}",
        "its slices": slices,
        "its checks": checks or "none",
        "fine-tuning": f"{mapping['fine_tune_epochs']} epochs" if mapping["fine_tune"] else "none",
    }


def _settings(config: Mapping, versions: Mapping[tuple[str, str], Mapping[str, str]]) -> dict[str, Any]:
    """The settings that most change a result, and versions."""
    alike, different = _versions(versions)
    cluster, train, graph = config["cluster"], config["train"], config["graph"]
    size = {key: cluster[key] for key in ("n_domains", "resolution") if cluster[key] is not None}
    return {
        "sheet of slices": config["slices"],
        "recipe": config["recipe"],
        "methods": ", ".join(config["methods"]),
        "seeds": ", ".join(map(str, config["seeds"])),
        "encoder": ", ".join(f"{key} {value}" for key, value in config["encoder"].items()),
        "training": f"T {train['T']}, lr {train['lr']}, n_epochs {train['n_epochs'] or 'by size'}",
        "graph": f"intra_knns {graph['intra_knns']}, inter_knn_base {graph['inter_knn_base']}, w_g {graph['w_g']}",
        "clustering": ", ".join([cluster["method"], *(f"{key} {value}" for key, value in size.items())]),
        "imputation": f"{config['impute']['method']}, {config['impute']['n_neighbors']} neighbours",
        "truth": config["truth"] or "none",
        "versions": ", ".join(alike),
        **({"versions that differ between steps": "; ".join(different)} if different else {}),
    }


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
