"""Faults of a complete configuration that no schema can tell: keys against each other, and against the sheet."""

import os
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from pathlib import Path

from mosaic.config.clusterers import CLUSTERERS, NEEDS, OPTIONS, going_by, taking
from mosaic.config.defaults import ALLOWED, COUNTING, KIND_DEFAULTS, PUBLISHED_KINDS
from mosaic.config.design import SampleRow, SampleSheet, design_faults
from mosaic.config.encoders import ENCODERS, impossible
from mosaic.config.methods import BASELINES, unsupported_reason
from mosaic.config.readers import READERS
from mosaic.config.schema import key_of, shown
from mosaic.errors import InputError

# Columns of `obs` that the workflow writes, besides `result_columns`; anndata stores an index as `_index`.
OWN_COLUMNS = ("slice", "barcode", "in_tissue", "modalities", "mosaic_domain", "_index")


def run_faults(
    config: Mapping,
    sheet: SampleSheet,
    where: str,
    *,
    reference: Collection[str] | None,
    defaults: Mapping,
    with_conda: bool,
) -> Iterator[InputError]:
    """All of them.

    Parameters
    ----------
    config
        With every default filled in.
    sheet, where
        The sheet, and its name.
    reference
        Slices of the reference onto which the run maps those of the sheet; None: the run trains.
    defaults
        Of the schema, by section; ``qc``: those of one modality.
    with_conda
        Whether conda makes the environments of the rules; if not, the config names an interpreter for a baseline.
    """
    yield from _config_faults(config, sheet)
    if reference is None:
        yield from _training_faults(config, defaults["encoder"], sheet)
        yield from _idle_modality_faults(config, sheet)
        yield from design_faults(sheet, where)
    else:
        yield from _mapping_faults(config, sheet, reference, where)
    yield from _spelling_faults(sheet, where)
    yield from _idle_faults(config, defaults)
    yield from _column_faults(config, sheet)
    yield from _condition_faults(config, sheet)
    yield from _pair_faults(config, sheet)
    yield from _method_faults(config, sheet, with_conda=with_conda)
    yield from _export_faults(config, sheet, with_conda=with_conda)


def result_columns(config: Mapping) -> list[str]:
    """Columns of ``obs`` that each method and seed of a run adds to the result."""
    methods, seeds = config["methods"], config["seeds"]
    columns = [f"domain_{method}_{seed}" for method in methods for seed in seeds]
    return columns + [f"{name}_{method}" for name in ("consensus", "confidence") for method in methods]


def _mapping_faults(config: Mapping, sheet: SampleSheet, known: Collection[str], where: str) -> Iterator[InputError]:
    """Slices that bear the name of one of the reference; fine-tuning without pairs."""
    for name in sheet.slices:
        if name in known:
            problem = f"slice {name} is in the reference, too"
            yield InputError(problem, where=where, hint="give the new slice another name: spots are named by it")
    if config["mapping"]["fine_tune"] and not sheet.bridges:
        problem = "no slice of the sheet has two modalities, so that nothing tunes the encoders"
        yield InputError(problem, where=key_of("mapping", "fine_tune"), hint="set it to false")


def _spelling_faults(sheet: SampleSheet, where: str) -> Iterator[InputError]:
    """Slices in two spellings, whose modalities would not be paired."""
    for first, second in combinations(sheet.slices, 2):
        if first.lower() == second.lower() and not set(sheet.modalities_of(first)) & set(sheet.modalities_of(second)):
            measured = [f"{name} has {', '.join(sheet.modalities_of(name))}" for name in (first, second)]
            yield InputError(
                f"slices {first} and {second} differ in upper and lower case alone, and share no modality: "
                f"{'; '.join(measured)}",
                where=where,
                hint="if they are one slice, spell it alike; if they are two, give one another name",
            )


def _config_faults(config: Mapping, sheet: SampleSheet) -> Iterator[InputError]:
    for name, modality in config["modalities"].items():
        if name.removesuffix("_imputed") != name and name.removesuffix("_imputed") in config["modalities"]:
            yield InputError(
                f"is what the imputed counts of {name.removesuffix('_imputed')} are called in the result",
                where=key_of("modalities", name),
                hint="give this modality another name",
            )
        for key, allowed in ALLOWED[modality["kind"]].items():
            if modality[key] not in allowed:
                yield InputError(
                    f"{modality[key]!r} does not go with kind {modality['kind']}",
                    where=key_of("modalities", name, key),
                    hint=f"one of: {', '.join(sorted(allowed))}",
                )
        if modality["reduction"] == "lsi" and modality["normalization"] == "none":
            yield InputError(
                "lsi scales and takes logarithms itself, and normalization is none",
                where=key_of("modalities", name, "reduction"),
                hint="leave normalization out, or set reduction to pca",
            )
        wrong = modality["kind"] == "rna" and (modality["reduction"], modality["normalization"]) != ("pca", "log")
        if modality["features"] == "union" and wrong:
            found = f"here {modality['normalization']} and {modality['reduction']}"
            yield InputError(
                f"union goes with normalization log (of rna) and reduction pca, {found}",
                where=key_of("modalities", name, "features"),
                hint="leave it out, or leave out normalization and reduction",
            )
        for key in COUNTING:
            if modality.get(key) is not None and modality["kind"] != "epigenome":
                problem = f"fragments of chromatin alone are counted by it, and the kind is {modality['kind']}"
                yield InputError(problem, where=key_of("modalities", name, key), hint="leave it out")
        if modality.get("peaks") and config["check_files"] and not os.path.isfile(modality["peaks"]):
            problem = f"{shown(modality['peaks'])} is not there"
            hint = f"give the path of a BED file, relative to {Path.cwd()}"
            yield InputError(problem, where=key_of("modalities", name, "peaks"), hint=hint)
        if "drop_first" in modality and modality["kind"] != "epigenome":
            yield InputError(
                f"only chromatin's first component follows depth, and the kind is {modality['kind']}",
                where=key_of("modalities", name, "drop_first"),
                hint="leave it out",
            )
        unlogged = modality["normalization"] == "none" and modality["n_top_features"] is not None
        if modality["feature_selection"] == "seurat" and unlogged:
            yield InputError(
                "seurat selects features on log-normalised values, and normalization is none",
                where=key_of("modalities", name, "feature_selection"),
                hint="set feature_selection to seurat_v3 or all",
            )
    knns = config["graph"]["intra_knns"]
    if isinstance(knns, Mapping) and config["reference"] is None:
        for name in sorted(set(knns) ^ set(sheet.slices), key=str):
            problem = "is no slice of the sheet" if name in knns else "is missing"
            hint = f"one number for all slices, or one for each of {', '.join(sheet.slices)}"
            if str(name) in sheet.slices and name in knns:
                problem, hint = "is no text, as names of slices are", f"write it in quotes: '{name}'"
            yield InputError(problem, where=key_of("graph", "intra_knns", name), hint=hint)
    given = config["um_per_unit"]
    for name in sorted(set(given) - set(sheet.slices), key=str) if isinstance(given, Mapping) else ():
        hint = f"one number for all slices, or one for each of some, by its name in quotes: {', '.join(sheet.slices)}"
        yield InputError("is no slice of the sheet", where=key_of("um_per_unit", name), hint=hint)
    cluster = config["cluster"]
    wanted = CLUSTERERS[cluster["method"]].needs
    for name, begin in NEEDS.items():
        if name == wanted and cluster[name] is None:
            problem = f"is missing, and {cluster['method']} needs it"
            yield InputError(problem, where=key_of("cluster", name), hint=begin)
        if name != wanted and cluster[name] is not None:
            yield InputError(
                f"{cluster[name]} is for {going_by(name)}; {cluster['method']} goes by {wanted}",
                where=key_of("cluster", name),
                hint="leave it out, or set it to null",
            )
    for name, nothing in OPTIONS.items():
        if cluster[name] != nothing and name not in CLUSTERERS[cluster["method"]].options:
            yield InputError(
                f"{cluster[name]} is for {taking(name)}, and {cluster['method']} would not use it",
                where=key_of("cluster", name),
                hint=f"leave it out, or set it to {nothing}",
            )
    low, high = cluster["n_domains_range"]
    if low >= high:
        yield InputError(
            f"{low} is not below {high}",
            where=key_of("cluster", "n_domains_range"),
            hint="first the smallest number, then the largest, such as [2, 15]",
        )


def _training_faults(config: Mapping, encoder_defaults: Mapping, sheet: SampleSheet) -> Iterator[InputError]:
    """Settings that the chosen encoder or the chosen losses would ignore, and losses that this design does not have."""
    encoder, train = config["encoder"], config["train"]
    architecture = ENCODERS[encoder["net"]]
    for key, default in encoder_defaults.items():
        if key not in ("net", *architecture.settings) and encoder[key] != default:
            nets = ", ".join(net for net, other in ENCODERS.items() if key in other.settings)
            problem = f"{encoder['net']} does not take it"
            yield InputError(problem, where=key_of("encoder", key), hint=f"leave it out; it is for {nets}")
    if fault := impossible(encoder["net"], K=encoder["K"], n_hidden=encoder["n_hidden"]):
        key, problem, hint = fault
        yield InputError(problem, where=key_of("encoder", key), hint=hint)
    if train["w_rec_g"] and "reconstruction" not in train["losses"]:
        yield InputError(
            f"{train['w_rec_g']:g} is a share of the reconstruction, which is no loss of this run",
            where=key_of("train", "w_rec_g"),
            hint="leave it out, or add reconstruction to train.losses",
        )
    queries = [name for name in sheet.slices if name not in sheet.bridges]
    has = {"contrastive": bool(sheet.bridges), "reconstruction": train["reconstruct"] == "all" or bool(queries)}
    if not any(has[name] for name in train["losses"]):
        yield InputError(
            "nothing would be minimised: contrastive needs a bridge slice, and with reconstruct: queries "
            "reconstruction needs a slice that is none",
            where=key_of("train", "losses"),
            hint="add a loss that the slices of the sheet have, or set reconstruct to all",
        )


def _idle_modality_faults(config: Mapping, sheet: SampleSheet) -> Iterator[InputError]:
    """Settings of a modality that nothing would look at, so that the run would not do what they ask for."""
    for name, modality in config["modalities"].items():
        published = PUBLISHED_KINDS.get(modality["kind"], {}) if config["recipe"] == "published" else {}
        usual = KIND_DEFAULTS[modality["kind"]] | published
        changed = {key for key in usual if modality[key] != usual[key]}
        selection, number, reduction = (modality[key] for key in ("feature_selection", "n_top_features", "reduction"))
        by_number = "leave it out, or set feature_selection to seurat, seurat_v3 or prevalence"
        counted = [row for row in sheet if row.modality == name and os.path.lexists(row.path)]
        fragments = [row for row in counted if _of_fragments(row)] or len(counted) < len(sheet.slices_of(name))
        for key, idle, problem, hint in (
            ("scale", reduction != "pca", "features are scaled for reduction pca alone", "leave it out"),
            ("n_comps", reduction == "none", "ready features are taken as they are", "leave it out"),
            (
                "n_top_features",
                selection == "all" and number is not None,
                "feature_selection all keeps every feature",
                by_number,
            ),
            (
                "feature_selection",
                selection != "all" and number is None,
                f"{selection} keeps every feature without n_top_features",
                "set n_top_features, or leave this out",
            ),
            (
                "bin_size",
                modality.get("peaks") is not None and modality.get("bin_size") is not None,
                "fragments are counted in peaks",
                "leave out bin_size, or peaks",
            ),
            *(
                (
                    key,
                    modality.get(key) is not None and modality["kind"] == "epigenome" and not fragments,
                    "none of its paths holds fragments, which alone are counted by it",
                    "leave it out, or give the fragments in the sheet",
                )
                for key in COUNTING
            ),
        ):
            if idle and (key in changed or key in COUNTING):
                yield InputError(problem, where=key_of("modalities", name, key), hint=hint)


def _of_fragments(row: SampleRow) -> bool:
    return row.options.get("format") == "fragments" or READERS["fragments"].recognises(row.path)


def _idle_faults(config: Mapping, defaults: Mapping) -> Iterator[InputError]:
    """The same of other sections."""
    for name, modality in config["modalities"].items():
        for key in ("min_counts", "min_features", "min_spots", "max_mito_percent"):
            if modality["kind"] == "features" and config["qc"][name][key] != defaults["qc"][key]:
                problem = "ready features have no counts, and only in_tissue drops their spots"
                hint = "leave it out, and drop the spots in the files"
                yield InputError(problem, where=key_of("qc", name, key), hint=hint)
    mapped = config["reference"] is not None
    leave = "leave it out, or set"
    for section, key, idle, problem, hint in (
        (
            "graph",
            "smooth_L",
            not config["graph"]["smooth_input"],
            "nothing is smoothed",
            f"{leave} smooth_input: true",
        ),
        (
            "impute",
            "smooth_neighbors",
            config["impute"]["method"] != "matching",
            f"{config['impute']['method']} does not smooth",
            f"{leave} method: matching",
        ),
        (
            "cluster",
            "n_domains_range",
            config["cluster"]["n_domains"] != "auto",
            "the number is not chosen",
            f"{leave} n_domains: auto",
        ),
        *(
            ("mapping", key, not mapped, "nothing is mapped", f"{leave} reference")
            for key in ("min_features", "fine_tune", "fine_tune_epochs")
        ),
        (
            "mapping",
            "fine_tune_epochs",
            mapped and not config["mapping"]["fine_tune"],
            "nothing is tuned",
            f"{leave} fine_tune: true",
        ),
    ):
        if idle and config[section][key] != defaults[section][key] and not (mapped and section != "mapping"):
            yield InputError(problem, where=key_of(section, key), hint=hint)


def _column_faults(config: Mapping, sheet: SampleSheet) -> Iterator[InputError]:
    """Columns of the users' that would take the place of the workflow's own, or that HDF5 can't hold by their name."""
    own = [*OWN_COLUMNS, *result_columns(config)]
    named = [("truth", config["truth"]), *((f"keep_obs.{i}", name) for i, name in enumerate(config["keep_obs"]))]
    taken = {*own, *(name for _, name in named)}
    for key, name in named:
        if name is None:
            continue
        parts = name.split("/")
        above = ["/".join(parts[:end]) for end in range(1, len(parts))]
        if name in own:
            yield InputError(
                f"{shown(name)} is a column of the workflow's own",
                where=key_of(key),
                hint=f"rename the column in the files; these names are taken: {', '.join(own)}",
            )
        elif {"", "."} & set(parts) or taken & set(above):
            yield InputError(
                f"HDF5 takes {shown(name)} for another place in a file",
                where=key_of(key),
                hint="rename the column in the files, without slashes",
            )
    for name in sheet.columns:
        others = [key for key, other in named if other == name]
        if name in own or others:
            problem = "is a column of the workflow's own" if name in own else f"is named by {' and '.join(others)}, too"
            hint = "give this column another name"
            yield InputError(problem, where=f"{config['slices']}, column {name}", hint=hint)


def _condition_faults(config: Mapping, sheet: SampleSheet) -> Iterator[InputError]:
    """Columns and levels that the sheet lacks, and covariates that a replicate has several of."""
    own = config["conditions"]
    column = own["column"]
    if column is None:
        for name in ("reference", "donor", "covariates"):
            if own[name]:
                hint = "set conditions.column, the column of the sheet whose levels are compared, or leave this out"
                yield InputError("nothing is compared", where=key_of("conditions", name), hint=hint)
        return
    named = [
        ("column", column),
        ("donor", own["donor"]),
        *((f"covariates.{i}", c) for i, c in enumerate(own["covariates"])),
    ]
    known = f"its further columns are: {', '.join(sheet.columns) or 'none'}"
    unknown = [(key, name) for key, name in named if name is not None and name not in sheet.columns]
    for key, name in unknown:
        yield InputError(f"{config['slices']} has no column {shown(name)}", where=key_of("conditions", key), hint=known)
    if unknown:
        return
    levels = sheet.columns[column]
    if own["reference"] is not None and own["reference"] not in levels.values():
        hint = f"the levels are {', '.join(dict.fromkeys(levels.values()))}"
        problem = f"{shown(own['reference'])} is no level of {column}"
        yield InputError(problem, where=key_of("conditions", "reference"), hint=hint)
    donors = sheet.columns[own["donor"]] if own["donor"] else {}
    for number, name in enumerate(own["covariates"]):
        values: dict[tuple[str, str], set[str]] = {}
        for slice_name, level in levels.items():
            told = sheet.columns[name].get(slice_name, "")
            values.setdefault((donors.get(slice_name, slice_name), level), set()).add(told)
        for (donor, level), several in values.items():
            if len(several) > 1:
                yield InputError(
                    f"{name} differs between the slices of {donor} that are {level}, whose counts are summed",
                    where=key_of("conditions", "covariates", number),
                    hint="leave the column out, or leave conditions.donor out so that each slice is a replicate",
                )


def _pair_faults(config: Mapping, sheet: SampleSheet) -> Iterator[InputError]:
    """Pairs of features of which no slice has both modalities."""
    for number, pair in enumerate(config["spatial"]["pairs"]):
        where, ends = key_of("spatial", "pairs", number), [feature.split(":", 1)[0] for feature in pair]
        counted = [name for name in sheet.modalities if config["modalities"][name]["kind"] != "features"]
        unknown = [name for name in ends if name not in counted]
        if unknown:
            hint = f"modalities with counts are {', '.join(counted) or 'none'}"
            yield InputError(f"{unknown[0]} is no modality with counts", where=where, hint=hint)
        elif ends[0] == ends[1]:
            yield InputError("both features are of one modality", where=where, hint="name features of two modalities")
        elif not set(sheet.slices_of(ends[0])) & set(sheet.slices_of(ends[1])):
            hint = "name modalities that a bridge slice measured both"
            yield InputError(f"no slice has both {ends[0]} and {ends[1]}", where=where, hint=hint)


def _method_faults(config: Mapping, sheet: SampleSheet, *, with_conda: bool) -> Iterator[InputError]:
    """Baselines that can't integrate this design, or that nothing can run."""
    kinds = {name: modality["kind"] for name, modality in config["modalities"].items()}
    for method in config["methods"]:
        if reason := unsupported_reason(method, sheet, kinds):
            hint = "leave it out, or change the sheet"
            yield InputError(f"{method} can't integrate these slices: {reason}", where=key_of("methods"), hint=hint)
    exports = ["spatialdata"] if config["export"]["spatialdata"] else []
    for method, python in config["interpreters"].items():
        if method in (*config["methods"], *exports) and not os.access(python, os.X_OK):
            made = "make .venv-spatialdata" if method in exports else "make baselines"
            hint = f"make it with `{made}`, or name another Python, relative to {Path.cwd()}"
            yield InputError(f"{shown(python)} is no program", where=key_of("interpreters", method), hint=hint)
    for method in config["methods"]:
        if (
            method in BASELINES
            and BASELINES[method].separate
            and not with_conda
            and method not in config["interpreters"]
        ):
            folder = f".venv-{BASELINES[method].env}"
            yield InputError(
                f"{method} needs an environment of its own, and neither conda nor an interpreter is given",
                where=key_of("methods"),
                hint=f"make it with `make {folder}` (`make baselines` makes all) and set interpreters: "
                f"{{{method}: {folder}/bin/python}}, or run with --sdm conda",
            )


def _export_faults(config: Mapping, sheet: SampleSheet, *, with_conda: bool) -> Iterator[InputError]:
    """Exports that nothing can run, or whose names would be one to a file system without upper and lower case."""
    if not config["export"]["spatialdata"]:
        return
    where = key_of("export", "spatialdata")
    if not with_conda and "spatialdata" not in config["interpreters"]:
        yield InputError(
            "needs an environment of its own, and neither conda nor an interpreter is given",
            where=where,
            hint="make it with `make .venv-spatialdata` and set interpreters: {spatialdata: "
            ".venv-spatialdata/bin/python}, or run with --sdm conda",
        )
    for names in (sheet.slices, sheet.modalities):
        for first, second in combinations(names, 2):
            if first.lower() == second.lower():
                problem = f"SpatialData can't hold {first} and {second}, which differ in upper and lower case alone"
                yield InputError(problem, where=where, hint="rename one of them in the sheet")
