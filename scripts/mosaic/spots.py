"""Names of spots, stacking of slices, and pairing of the modalities of a slice.

A spot has the name ``{slice}:{barcode}``, unique over a run, because barcodes repeat between slices.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from mosaic.errors import InputError, few
from mosaic.store import read, read_slices

logger = logging.getLogger(__name__)

# Key of varm of slices that were stacked over the features of any: which slices measured a feature.
MEASURED = "measured"


def as_text(values: pd.Series) -> pd.Series:
    """Values as text, whole numbers without a decimal point; missing values stay missing."""
    known = values.notna().to_numpy()
    text = np.full(len(values), np.nan, dtype=object)
    text[known] = [
        str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)
        for value in values[known]
    ]
    return pd.Series(text, index=values.index, dtype=object)


def plain_values(values: pd.Series) -> pd.Series:
    """Booleans (nullable if some are missing), numbers (NaN if missing), or text."""
    if pd.api.types.is_bool_dtype(values.dtype) and not isinstance(values.dtype, pd.CategoricalDtype):
        return values.astype("boolean" if values.isna().any() else bool)
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_complex_dtype(values.dtype):
        return values.astype(float) if values.isna().any() else pd.Series(values.to_numpy(), index=values.index)
    return as_text(values)


def joined_column(parts: Sequence[pd.Series], name: str) -> pd.Series:
    """Concatenate a column of several ``obs`` tables, with one common type.

    Parameters
    ----------
    parts
        The column of each table that has it.
    name
        Its name, for messages.

    Returns
    -------
    Series (spots of all tables) of booleans, numbers, or text (object) if the tables differ, which is logged.
    """
    parts = [plain_values(part) for part in parts]
    types = {part.dtype.kind: part.dtype for part in parts if part.notna().any()}
    kinds = {"text" if kind == "O" else "yes or no" if kind == "b" else "numbers" for kind in types}
    if len(kinds) > 1:
        logger.warning("obs[%r] is %s in some files: all of it becomes text", name, " and ".join(sorted(kinds)))
    if len(kinds) > 1 or kinds == {"text"}:
        return pd.concat(map(as_text, parts))
    parts = [part for part in parts if part.notna().any()] or parts
    joined = pd.concat(parts)
    return joined.astype("boolean") if joined.dtype == object else joined


def shared_features(slices: Sequence[ad.AnnData]) -> pd.Index:
    """Names of the features that all slices have, in the order of the first."""
    shared = slices[0].var_names
    for adata in slices[1:]:
        shared = shared[shared.isin(adata.var_names)]
    return shared


def stack(slices: Iterable[ad.AnnData], modality: str, features: str = "shared") -> ad.AnnData:
    """Stack the slices of one modality, in the order given.

    With a generator, slices stay in memory no longer than necessary.

    Parameters
    ----------
    slices
        Of one modality.
    modality
        Its name, for messages.
    features
        ``shared``: over the features that all slices have. ``union``: over the features of any. Then
        ``varm["measured"]`` (features x slices, bool) says which slices measured them, unless all did; values that were
        not measured are zero.

    Raises
    ------
    InputError
        If the slices share no feature.
    """
    slices = list(slices)
    shared = shared_features(slices)
    if shared.empty:
        examples = "; ".join(f"{adata.obs['slice'].iloc[0]} has {few(adata.var_names)}" for adata in slices)
        raise InputError(
            f"the slices share no features: {examples}",
            where=f"modality {modality}",
            hint="use the same identifiers (symbols or Ensembl ids; one set of peaks) in all slices",
        )
    everything = features == "union" and any(adata.n_vars > len(shared) for adata in slices)
    for adata in slices:
        if adata.n_vars > len(shared) and not everything:
            logger.info(
                "%s: dropped %d of %d features of %s that are not in every slice",
                modality,
                adata.n_vars - len(shared),
                adata.n_vars,
                adata.obs["slice"].iloc[0],
            )
    names = [adata.obs["slice"].iloc[0] for adata in slices]
    # Copy only slices that lose features.
    if everything:
        union = dict.fromkeys(name for adata in slices for name in adata.var_names)
        stacked = ad.concat(slices, join="outer", merge="first", fill_value=0)[:, list(union)].copy()
        measured = {name: stacked.var_names.isin(adata.var_names) for name, adata in zip(names, slices, strict=True)}
        stacked.varm[MEASURED] = pd.DataFrame(measured, index=stacked.var_names)
        # anndata takes a column of var from one slice, which lacks the features of others.
        if told := [adata.var["gene_id"] for adata in slices if "gene_id" in adata.var]:
            ids = pd.concat(told).astype(object)
            stacked.var["gene_id"] = ids[~ids.index.duplicated()].reindex(stacked.var_names).fillna("").astype(str)
    else:
        parts = [adata if adata.var_names.equals(shared) else adata[:, shared] for adata in slices]
        stacked = ad.concat(parts, merge="first")
    stacked.obs["slice"] = pd.Categorical(stacked.obs["slice"], names)
    # anndata would drop columns that some slice lacks; keep them, with missing values.
    for name in dict.fromkeys(name for adata in slices for name in adata.obs if name not in ("slice", "barcode")):
        column = joined_column([adata.obs[name] for adata in slices if name in adata.obs], name)
        stacked.obs[name] = spread_column(column, stacked.obs_names)
    return stacked


def read_stacked(paths: Sequence[str | Path], union: Collection[str] = ()) -> dict[str, ad.AnnData]:
    """Read files that rules named ``{slice}.{modality}.h5ad``, and stack the slices of each modality.

    Parameters
    ----------
    paths
        The files.
    union
        Modalities to stack over all features, not the shared ones: see ``stack``.
    """
    slices = read_slices(paths)
    # The slices of one modality at a time are in memory beside their stack.
    return {name: stack(slices.pop(name), name, "union" if name in union else "shared") for name in list(slices)}


def slice_names(obs: pd.DataFrame) -> list[str]:
    """Names of the slices of a stacked ``obs``, in order of appearance."""
    return [str(name) for name in pd.unique(obs["slice"])]


def beside_reference(graph: ad.AnnData, slice_name: str) -> ad.AnnData:
    """The spots of a reference and of one new slice, with their edges: other new slices change the weights of edges.

    Parameters
    ----------
    graph
        As ``graph.link_to_reference`` returns it.
    slice_name
        The new slice.
    """
    own = (~graph.obs["new"] | (graph.obs["slice"] == slice_name)).to_numpy()
    return graph if own.all() else graph[own].copy()


def union(obs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """All spots of a run, slice by slice, each once.

    Parameters
    ----------
    obs
        Per modality the ``obs`` of its stacked slices.

    Returns
    -------
    DataFrame indexed by spot, with ``slice`` (categorical), ``barcode`` and ``modalities``, the names of the
    modalities of the spot, joined by ``+``.
    """
    rows = pd.concat([table[["slice", "barcode"]] for table in obs.values()])
    spots = rows[~rows.index.duplicated()].copy()
    # Combinations of modalities are few, spots are many: each spot has the number of its combination.
    combination = np.zeros(len(spots), dtype=np.int64)
    for number, table in enumerate(obs.values()):
        combination[spots.index.get_indexer(table.index)] += 1 << number
    found, own = np.unique(combination, return_inverse=True)
    names = ["+".join(name for number, name in enumerate(obs) if code >> number & 1) for code in found.tolist()]
    spots["modalities"] = np.array(names, dtype=object)[own]
    slices = spots["slice"].astype(str)
    spots["slice"] = pd.Categorical(slices, sorted(slices.unique()))
    spots = spots.sort_values("slice", kind="stable")
    spots.index.name = None
    return spots


def spread_column(column: pd.Series, spots: pd.Index) -> pd.Series:
    """A column reindexed to ``spots``, missing where it has no value; text as categories."""
    column = _over(column, spots)
    return column.astype("category") if column.dtype == object else column


def _over(column: pd.Series, spots: pd.Index) -> pd.Series:
    # A missing bool would turn the column into objects.
    lacking = column.dtype == bool and not spots.isin(column.index).all()
    return (column.astype("boolean") if lacking else column).reindex(spots)


def annotation(obs: Mapping[str, pd.DataFrame], spots: pd.Index, column: str) -> pd.Series:
    """One column of the users' ``obs``, for all spots of a run, from the first modality that has a value.

    Parameters
    ----------
    obs
        Per modality the ``obs`` of its stacked slices.
    spots
        Names of the spots wanted.
    column
        The column.

    Returns
    -------
    Series (spots) as of ``joined_column``, missing where no modality has a value.

    Raises
    ------
    InputError
        If no modality has the column.
    """
    found = [table[column] for table in obs.values() if column in table]
    if not found:
        raise no_column(column, {name for table in obs.values() for name in table} - {"slice", "barcode", "in_tissue"})
    values = joined_column(found, column).dropna()
    first = values[~values.index.duplicated()]
    differ = values[values.index.duplicated()]
    differ = int((differ != first.loc[differ.index]).sum())
    if differ:
        logger.warning("obs[%r] differs between the modalities of %d spots: the first one's is taken", column, differ)
    return _over(first, spots)


def no_column(column: str, known: Iterable[str]) -> InputError:
    """The error for a column that the config names and no file has."""
    return InputError(
        f"no file has obs[{column!r}]; columns there are: {few(sorted(known), 20) or 'none'}",
        where="config keys truth and keep_obs",
        hint="name columns of obs as the files have them; truth is null where the true domains are not known",
    )


def truth(path: str | Path, spots: pd.Index, column: str | None) -> pd.Series | None:
    """The true domains of a run's spots.

    Parameters
    ----------
    path
        Output of rule ``annotate``; not read without ``column``.
    spots
        Names of the spots wanted.
    column
        The column of the true domains; None: unknown, returns None.

    Returns
    -------
    Series of str (spots), missing where a spot has no true domain.
    """
    return read(path).obs[column].astype(object).reindex(spots) if column else None


def paired(obs: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Pair the modalities of every bridge slice by barcode.

    Parameters
    ----------
    obs
        Per modality the ``obs`` of its stacked slices.

    Returns
    -------
    For every slice with two modalities or more, a DataFrame indexed by spot with one column per modality of the
    slice: the row of the spot in that modality, or -1 if missing. Only spots with two or more modalities.

    Raises
    ------
    InputError
        If two modalities of one slice share no barcode.
    """
    pairs = {}
    for slice_name in sorted({str(name) for table in obs.values() for name in table["slice"].unique()}):
        rows = {
            modality: pd.Series(np.flatnonzero(members), index=table.index[members], name=modality)
            for modality, table in obs.items()
            if (members := (table["slice"] == slice_name).to_numpy()).any()
        }
        for first, second in combinations(rows, 2):
            if not rows[first].index.isin(rows[second].index).any():
                raise InputError(
                    f"{first} and {second} share no barcode: {few(rows[first].index)} against "
                    f"{few(rows[second].index)}",
                    where=f"slice {slice_name}",
                    hint="the modalities of a slice are paired by obs_names: spell the barcodes alike",
                )
        if len(rows) > 1:
            table = pd.concat(rows.values(), axis=1).fillna(-1).astype(int)
            pairs[slice_name] = table[(table >= 0).sum(axis=1) > 1].sort_index()
    return pairs
