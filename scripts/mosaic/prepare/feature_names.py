"""Features of the slices of a modality that are the same gene under two names: matched by identifiers and symbols."""

import logging
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import pandas as pd

from mosaic.errors import InputError, few

logger = logging.getLogger(__name__)

# Identifiers of Ensembl, with or without a version behind them.
_ENSEMBL = re.compile(r"(ENS[A-Z]*G\d{11})(\.\d+)?")
# Kinds of modalities whose features have such names.
NAMED = ("rna", "protein")
# Stands for the reference among the slices.
_REFERENCE = ""


class Matched(NamedTuple):
    """The features of the slices of a modality.

    Attributes
    ----------
    listed
        A row per feature: ``feature``, ``gene_id`` (empty if unknown), ``n_slices``, and ``slices``, the names of the
        slices that measured it, joined by commas; first the features of most slices.
    renamed
        A row per feature of a slice that has another name here than in its file: ``slice``, ``name_in_file``,
        ``feature``.
    """

    listed: pd.DataFrame
    renamed: pd.DataFrame


def match_features(
    tables: Mapping[str, pd.DataFrame], modality: str = "", known: pd.DataFrame | None = None
) -> Matched:
    """Match the features of the slices of one modality.

    A feature keeps its name if an earlier slice has a feature of this name, or none has the gene. Otherwise it takes
    the name of the feature of an earlier slice with the same identifier or, where one of the two has none, the same
    symbol. Ensembl's versions (``ENSG00000141510.18``) are ignored. An identifier or symbol that several features of a
    slice share matches nothing.

    Parameters
    ----------
    tables
        Per slice its features, indexed by name, with ``gene_id`` and ``symbol``, empty where unknown
        (``read.read_features``).
    modality
        Its name, for messages.
    known
        The same of a reference: its names are taken, and each slice is matched by itself. It is not listed.
    """
    # Names that are taken, by key, and their identifiers.
    by_key: dict[str, str] = {}
    known_ids: dict[str, str] = {}
    ids: dict[str, str] = {}
    slices: dict[str, list[str]] = {}
    renamed = []
    for slice_name, table in (({} if known is None else {_REFERENCE: known}) | dict(tables)).items():
        own, taken, found = set(table.index), set(), []
        n_differ = 0
        keys = [_keys(*row) for row in table[["gene_id", "symbol"]].itertuples(name=None)]
        repeated = {key for key, count in Counter(key for each in keys for key in set(each)).items() if count > 1}
        for name, (identifier, *others) in zip(table.index, keys, strict=True):
            target = name
            if name not in known_ids:
                for key in (identifier, *others):
                    other = None if key in repeated else by_key.get(key)
                    if other is None or other in own or other in taken:
                        continue
                    # Two identifiers that differ are two genes, whatever their symbols.
                    if key != identifier and identifier and known_ids[other] and known_ids[other] != identifier:
                        continue
                    target = other
                    break
            elif identifier and known_ids[name] and known_ids[name] != identifier:
                n_differ += 1
            taken.add(target)
            found.append((target, identifier, others))
            if target != name:
                renamed.append((slice_name, name, target))
        if n_differ:
            logger.warning(
                "%s: %d features of %s have names of %s and other identifiers: they are matched by name",
                modality,
                n_differ,
                slice_name,
                "earlier slices" if known is None else "the reference",
            )
        for target, identifier, others in found:
            if slice_name != _REFERENCE:
                slices.setdefault(target, []).append(slice_name)
                ids[target] = ids.get(target) or known_ids.get(target) or identifier
            if known is None or slice_name == _REFERENCE:
                known_ids[target] = known_ids.get(target) or identifier
                for key in {identifier, *others} - repeated - {""}:
                    by_key.setdefault(key, target)
    listed = pd.DataFrame(
        {
            "feature": list(slices),
            "gene_id": [ids[name] for name in slices],
            "n_slices": [len(own) for own in slices.values()],
            "slices": [",".join(own) for own in slices.values()],
        }
    ).sort_values("n_slices", ascending=False, kind="stable", ignore_index=True)
    _log(listed, renamed, list(tables), modality)
    return Matched(listed, pd.DataFrame(renamed, columns=["slice", "name_in_file", "feature"]))


def features_of_reference(*parts: pd.DataFrame) -> pd.DataFrame:
    """The features of a reference as ``match_features`` takes them.

    Parameters
    ----------
    parts
        ``var`` of its features and, where it has them, of its counts.
    """
    everything = pd.concat([var.reindex(columns=["gene_id"]) for var in parts])
    table = everything[~everything.index.duplicated()].fillna("").astype(str)
    return table.assign(symbol="")


def read_renamed(path: str | Path) -> pd.DataFrame:
    """Read ``Matched.renamed`` from a table that ``match_features`` filled."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def with_names(adata: ad.AnnData, renamed: pd.DataFrame) -> ad.AnnData:
    """A slice with its features under the names of ``match_features``; identifiers that were names go to ``gene_id``.

    Parameters
    ----------
    adata
        One slice, as ``read.read_slice`` returns it; not changed.
    renamed
        See ``Matched``.

    Raises
    ------
    InputError
        If the slice does not have a feature that is to be renamed.
    """
    own = renamed[renamed["slice"] == str(adata.obs["slice"].iloc[0])]
    if own.empty:
        return adata
    names = dict(zip(own["name_in_file"], own["feature"], strict=True))
    if lacking := [name for name in names if name not in adata.var_names]:
        raise InputError(
            f"does not have features that were matched: {few(lacking)}",
            where=f"slice {own['slice'].iloc[0]}",
            hint="its file changed while the workflow ran: run again",
        )
    adata = adata.copy()
    if "gene_id" not in adata.var and all(map(_ENSEMBL.fullmatch, names)):
        adata.var["gene_id"] = adata.var_names.to_numpy(dtype=object)
    adata.var_names = pd.Index([names.get(name, name) for name in adata.var_names])
    return adata


def _keys(name: str, identifier: str, symbol: str) -> tuple[str, ...]:
    """What a feature is matched by: its identifier (empty if unknown), then its name and its symbol."""
    given = identifier or (name if _ENSEMBL.fullmatch(name) else "")
    found = _ENSEMBL.fullmatch(given)
    bare = found.group(1) if found else given
    return (bare, name, *([symbol] if symbol else []))


def _log(listed: pd.DataFrame, renamed: list, names: list[str], modality: str) -> None:
    shared = int((listed["n_slices"] == len(names)).sum())
    logger.info("%s: %d of %d features are in all of %d slices", modality, shared, len(listed), len(names))
    for slice_name, count in Counter(row[0] for row in renamed).items():
        example = next(row for row in renamed if row[0] == slice_name)
        logger.info(
            "%s: %d features of %s are matched by identifiers or symbols, such as %s, here %s",
            modality,
            count,
            slice_name,
            *example[1:],
        )
