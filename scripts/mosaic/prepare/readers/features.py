"""Features of an instrument's matrix: those of a kind, controls set apart, names that are unique."""

import logging
import re

import anndata as ad
import numpy as np
import pandas as pd

from mosaic.errors import InputError, few
from mosaic.prepare.readers.parts import Asked, Found, Parts

logger = logging.getLogger(__name__)

# Feature types of 10x Genomics, by kind.
TYPES = {
    "rna": ("Gene Expression",),
    "protein": ("Antibody Capture", "Protein Expression"),
    "epigenome": ("Peaks",),
}
# Names of the column of var with gene identifiers, in Space Ranger, scanpy, CELLxGENE and others.
GENE_IDS = ("gene_id", "gene_ids", "feature_id", "feature_ids", "ensembl_id")
# Text that means "not known", in lower case.
MISSING_WORDS = ("", "nan", "na", "n/a", "<na>", "none", "null")
# Other types that are controls of the measurement of genes, as Xenium has them.
_CONTROL_TYPES = re.compile(r"control|codeword", flags=re.IGNORECASE)
# Antibodies that bind nothing of the tissue: an animal's immunoglobulin, or named so. Human IgM and IgD are proteins.
_ANIMAL, _IG = r"(mouse|rat|hamster|rabbit|goat|\bms)", r"ig[gma]\d?"
_ISOTYPE = re.compile(
    rf"isotype|{_ANIMAL}.*{_IG}|{_IG}.*{_ANIMAL}|{_IG}.*(ctrl|control)|(ctrl|control).*{_IG}", flags=re.IGNORECASE
)
# Probes that bind nothing, of MERSCOPE and CosMx.
_BLANKS = re.compile(r"(blank|negprb|negative|systemcontrol|falsecode|custom_blank)[-_ \d]?.*", flags=re.IGNORECASE)


def of_kind(parts: Parts, asked: Asked) -> Parts:
    """The features of a kind, without its controls.

    Parameters
    ----------
    parts
        As read, with ``var["name"]``, ``var["feature_types"]``, and ``var["gene_id"]`` if there are identifiers.
    asked
        The kind (None: all features), and the path for messages.

    Returns
    -------
    The same spots. Repeated names have the identifier behind them (``TBCE_ENSG00000285053``), and are logged.
    ``controls`` has the names of controls with their total counts.

    Raises
    ------
    InputError
        If there are no features of the kind, or it has none.
    """
    if asked.kind is None:
        return parts
    var = parts.source.var
    types = var["feature_types"].astype(str)
    wanted = types.isin(TYPES[asked.kind]).to_numpy()
    if not wanted.any():
        there = ", ".join(f"{name} ({count:,})" for name, count in types.value_counts().items())
        raise InputError(
            f"has no features of type {' or '.join(TYPES[asked.kind])}, which kind {asked.kind} needs; it has {there}",
            where=asked.path,
            hint="change the modality's kind in the config, or take the row out of the sheet",
        )
    if asked.kind == "protein":
        controls = wanted & _isotypes(var)
    else:
        blank = np.array([bool(_BLANKS.fullmatch(name)) for name in var["name"]])
        of_type = np.array([bool(_CONTROL_TYPES.search(name)) for name in types])
        controls = (of_type | (wanted & blank)) if asked.kind == "rna" else np.zeros(len(var), dtype=bool)
    if not (wanted & ~controls).any():
        raise InputError(
            f"all {wanted.sum()} features of kind {asked.kind} are controls: {few(list(var['name'][wanted]))}",
            where=asked.path,
            hint="check the panel that the instrument was given",
        )
    apart = _totals(parts, controls)
    if apart:
        logger.info("%s: %d controls are set apart: %s", asked.path, len(apart), few(list(apart), 20))
    chosen = wanted & ~controls
    names = _unique(var[chosen], asked.path)
    told = var[chosen].drop(columns=["name", "feature_types", "isotype_control"], errors="ignore").set_axis(names)

    def kept(adata: ad.AnnData) -> ad.AnnData:
        rows = _rows(adata, var)
        part = adata if chosen[rows].all() else adata[:, chosen[rows]].copy()
        part.var = told.iloc[(np.cumsum(chosen) - 1)[rows[chosen[rows]]]]
        return part

    source = kept(parts.source)
    values = source if parts.values is parts.source else kept(parts.values)
    return parts._replace(source=source, values=values, controls=apart)


def of_mixed(parts: Parts, asked: Asked) -> Parts:
    """The features of a kind, of an AnnData whose ``var["feature_types"]`` tells several types apart; else all of it.

    Raises
    ------
    InputError
        As ``of_kind``.
    """
    var = parts.source.var
    types = set(var["feature_types"].astype(str)) if "feature_types" in var else set()
    known = {name for own in TYPES.values() for name in own}
    # A sample of columns is told by name; that names are repeated is reported elsewhere.
    unclear = parts.values.n_vars != len(var) and not var.index.is_unique
    if asked.kind not in TYPES or len(types) < 2 or not types & known or unclear:
        return parts
    column = next((name for name in GENE_IDS if name in var), None)
    ids = {} if column is None else {"gene_id": as_names(var[column])}
    source = parts.source
    typed = ad.AnnData(
        obs=source.obs, var=var.assign(name=var.index, **ids), obsm=dict(source.obsm), uns=dict(source.uns)
    )
    found = of_kind(parts._replace(source=typed), asked)
    others = sorted(types - set(TYPES[asked.kind]))
    logger.info("%s: %d of %d features are read; %s are others", asked.path, found.source.n_vars, len(var), few(others))
    return found


def as_names(column: pd.Series) -> np.ndarray:
    """Identifiers or symbols as text (object), empty where there is none."""
    text = column.astype(object).where(column.notna(), "").astype(str)
    return text.where(~text.str.strip().str.lower().isin(MISSING_WORDS), "").to_numpy(dtype=object)


def _rows(adata: ad.AnnData, var: pd.DataFrame) -> np.ndarray:
    """Where in the table of all features those of a matrix are, which may be a sample."""
    return np.arange(len(var)) if adata.n_vars == len(var) else var.index.get_indexer(adata.var_names)


def _isotypes(var: pd.DataFrame) -> np.ndarray:
    named = np.array([bool(_ISOTYPE.search(name)) for name in var["name"]])
    if "isotype_control" in var:
        named |= var["isotype_control"].astype(str).str.lower().isin(["true", "1"]).to_numpy()
    return named


def _totals(parts: Parts, controls: np.ndarray) -> dict[str, int]:
    """Total counts of the controls; of a sample, those of the sample."""
    matrix = parts.values.layers.get("counts", parts.values.X)
    if not controls.any() or matrix is None:
        return {}
    rows = _rows(parts.values, parts.source.var)
    own = np.flatnonzero(controls[rows])
    counts = np.nan_to_num(np.asarray(matrix[:, own].sum(axis=0), dtype=float).ravel(), posinf=0, neginf=0)
    return {name: int(count) for name, count in zip(parts.source.var["name"].iloc[rows[own]], counts, strict=True)}


def _unique(var: pd.DataFrame, where: str) -> pd.Index:
    """Names of which each repeated one has its identifier behind it."""
    names = pd.Index(var["name"])
    repeated = names.duplicated(keep=False)
    if not repeated.any() or "gene_id" not in var:
        return names
    logger.info(
        "%s: %d names are of several features, and have the identifier behind them: %s",
        where,
        names[repeated].nunique(),
        few(names[repeated].unique(), 20),
    )
    return pd.Index(np.where(repeated, names + "_" + var["gene_id"].astype(str), names))


def contents_of(var: pd.DataFrame, n_spots: int, name: str = "") -> list[Found]:
    """Modalities of a matrix by the types of its features, for a sheet to start from."""
    types = var["feature_types"].astype(str)
    found = []
    for kind, own in TYPES.items():
        count = int(types.isin(own).sum())
        if count:
            modality = {"rna": "rna", "protein": "protein", "epigenome": "atac"}[kind]
            found.append(Found(modality, kind, name, f"{n_spots:,} spots, {count:,} features"))
    return found


# Kinds of what is named so.
KINDS = {
    **dict.fromkeys(("rna", "gex", "gene_expression"), "rna"),
    **dict.fromkeys(("adt", "prot", "protein", "proteins"), "protein"),
    **dict.fromkeys(("atac", "peaks"), "epigenome"),
}


def guessed(names: pd.Index, n_spots: int, called: str = "") -> Found:
    """A modality by its name or else by its features: intervals of a genome, few of them (proteins), or genes."""
    told = f"{n_spots:,} spots, {len(names):,} features"
    if kind := KINDS.get(called.lower()):
        return Found(called, kind, "", told)
    intervals = sum(bool(re.fullmatch(r"\w+[:_-]\d+[_-]\d+", str(feature))) for feature in names[:100])
    kind = "epigenome" if intervals > 50 else "protein" if len(names) < 250 else "rna"
    modality = {"rna": "rna", "protein": "protein", "epigenome": "atac"}[kind]
    return Found(called or modality, kind, "", f"{told}; the kind is guessed by them")


def of_genes(names: list[str]) -> pd.DataFrame:
    """A table of features that are genes, by their number: names may be repeated."""
    columns = {"name": names, "feature_types": "Gene Expression"}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(names)).astype(str))
