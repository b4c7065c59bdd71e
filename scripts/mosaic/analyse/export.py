"""The result file: one MuData with counts, latent spaces, domains, UMAPs and imputed counts of a run.

Counts and imputed counts may be larger than memory. They go from the files of the slices to the result block by block;
of all else, and of the shape of these, a MuData without matrices is made first.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import h5py
import mudata as md
import numpy as np
import pandas as pd

from mosaic import __version__
from mosaic.analyse.intervals import LAYERS
from mosaic.blocks import append_block, n_values, stacked_blocks
from mosaic.embedding import LATENT
from mosaic.files import atomic_write
from mosaic.spots import spread_column, stack
from mosaic.store import read_outline
from mosaic.tables import DomainLabels

# Per modality the files of its slices.
Files = Mapping[str, Sequence[str | Path]]


class Run(NamedTuple):
    """Results of one method with one seed; ``labels``: names and colours of its domains."""

    method: str
    seed: int
    embedding: md.MuData
    aligned: md.MuData
    domains: pd.Series
    umap: pd.DataFrame
    imputed: Files
    labels: DomainLabels


def assemble_mudata(
    counts: Files,
    reduced: Mapping[str, ad.AnnData],
    runs: Sequence[Run],
    consensus: Mapping[str, pd.DataFrame],
    config: Mapping,
    annotations: pd.DataFrame | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
    union: Collection[str] = (),
) -> md.MuData:
    """Assemble the results of a run for muon, and its modalities for scanpy and squidpy, without the matrices.

    Parameters
    ----------
    counts
        Its slices after QC, with ``layers["counts"]`` (kind ``features``: X alone).
    reduced
        Per modality the features of all its slices, as ``reduce_modality`` returns them.
    runs
        Results per method and seed; the first also fills the names without method and seed.
    consensus
        Per method the consensus ``domain`` of each spot, its ``colour``, its ``name`` if domains have names, and
        ``confidence`` if known (see ``consensus.consensus``).
    config
        The configuration with all defaults.
    annotations
        Columns of the users' ``obs`` (spots) to add.
    columns
        Further columns of the sample sheet: per name the text of each slice that has one.
    union
        Modalities with the features of any slice, not the shared ones: see ``spots.stack``.

    Returns
    -------
    MuData. Per modality the measured spots with features in ``obsm``; and, if slices lack it or features of it, a
    second modality ``{modality}_imputed``. ``write_mudata`` says what their matrices are. Where slices
    measured, or lack, different features, ``varm["measured"]`` and ``varm["imputed"]`` (features x slices, bool) say
    which; other values are zero and mean nothing. Over all spots: ``obsm["X_{method}_{seed}"]``,
    ``obsm["X_aligned_{method}_{seed}"]``, ``obsm["X_umap_{method}_{seed}"]``, ``obs["domain_{method}_{seed}"]``, and
    the first run's as ``obsm["X_latent"]``, ``obsm["X_aligned"]``, ``obsm["X_umap"]`` and ``obs["mosaic_domain"]``; of
    each method
    ``obs["consensus_{method}"]`` and ``obs["confidence_{method}"]``; the annotations in ``obs`` under their names,
    also in the measured modalities, and the sheet's further columns as text; coordinates in ``obsm["spatial"]``;
    ``uns["mosaic"]`` with version and configuration (JSON), and ``uns["mosaic_domain_colors"]`` and the like, by which
    scanpy and muon colour the domains as the figures do. Domains have their names, or numbers as text.
    """
    first = runs[0]
    spots = first.embedding.obs_names
    modalities = {}
    for name, paths in counts.items():
        stacked = stack(map(read_outline, paths), name, "union" if name in union else "shared")
        adata = ad.AnnData(
            obs=stacked.obs,
            var=stacked.var,
            # Slices may stand in another order in the sheet's rows of a modality than in its features.
            obsm={**stacked.obsm, **reduced[name][stacked.obs_names].obsm},
            varm=dict(stacked.varm),
        )
        for run in runs:
            adata.obsm[f"X_{run.method}_{run.seed}"] = run.embedding[name][adata.obs_names].obsm[LATENT]
            adata.obsm[f"X_aligned_{run.method}_{run.seed}"] = run.aligned[name][adata.obs_names].obsm[LATENT]
        _annotate(adata.obs, annotations)
        modalities[name] = adata
        imputed = [read_outline(path) for path in first.imputed.get(name, ())]
        if any(own.n_vars for own in imputed):
            modalities[f"{name}_imputed"] = _joined(imputed)
    # Slices that were mapped onto a reference may all lack a modality of it.
    for name, paths in first.imputed.items():
        if name not in counts:
            modalities[f"{name}_imputed"] = _joined([read_outline(path) for path in paths])

    mdata = md.MuData(modalities)
    mdata = mdata[spots].copy()
    mdata.obs = first.embedding.obs.copy()
    mdata.obsm["spatial"] = first.embedding.obsm["spatial"]
    _annotate(mdata.obs, annotations)
    for name, told in (columns or {}).items():
        values = mdata.obs["slice"].astype(str).map(told).astype(object)
        mdata.obs[name] = pd.Categorical(values, categories=list(dict.fromkeys(told.values())))
    for run in reversed(runs):
        for key in (f"{run.method}_{run.seed}", None):
            column = f"domain_{key}" if key else "mosaic_domain"
            mdata.obs[column] = pd.Categorical(run.labels.of(run.domains.loc[spots]), list(run.labels.names.values()))
            mdata.uns[f"{column}_colors"] = list(run.labels.colours.values())
            mdata.obsm[f"X_{key}" if key else LATENT] = run.embedding[spots].obsm[LATENT]
            mdata.obsm[f"X_aligned_{key}" if key else "X_aligned"] = run.aligned[spots].obsm[LATENT]
            mdata.obsm[f"X_umap_{key}" if key else "X_umap"] = run.umap.loc[spots].to_numpy()
    for method, table in consensus.items():
        table = table.loc[spots]
        names = table["name" if "name" in table else "domain"].astype(str)
        order = table["domain"].astype(int).sort_values(kind="stable").drop_duplicates().index
        mdata.obs[f"consensus_{method}"] = pd.Categorical(names, names[order])
        mdata.uns[f"consensus_{method}_colors"] = table.loc[order, "colour"].tolist()
        if "confidence" in table:
            mdata.obs[f"confidence_{method}"] = table["confidence"]
    mdata.uns["mosaic"] = {"version": __version__, "config": json.dumps(config)}
    return mdata


def write_mudata(mdata: md.MuData, counts: Files, runs: Sequence[Run], path: str | Path) -> None:
    """Write the results of a run, with their matrices, of which a block at a time is in memory.

    Parameters
    ----------
    mdata, counts, runs
        What ``assemble_mudata`` returned, and took.
    path
        The file. A measured modality has counts in X and ``layers["counts"]`` (kind ``features``: X alone), an imputed
        one ``layers["imputed"]`` (X too) and ``layers["imputed_sd"]`` of the first run, and the likes of
        ``layers["imputed_{method}_{seed}"]`` of further ones.
    """
    with atomic_write(path) as unfinished:
        mdata.write_h5mu(unfinished, compression="lzf")
        with h5py.File(unfinished, "a") as file:
            for name, adata in mdata.mod.items():
                del file["mod"][name]["X"]  # says that there is none
                for key, sources in _matrices(name, counts, runs):
                    _write_matrix(file["mod"][name], key, sources, adata)


def browser_tables(obs: pd.DataFrame, slice_name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Domains of the spots of a slice, as browsers of vendors import them.

    Parameters
    ----------
    obs
        Of the MuData that ``assemble_mudata`` returns.
    slice_name
        The slice.

    Returns
    -------
    For Loupe Browser ``Barcode`` and a column for the domains of the first run, of each run and of each consensus; for
    Xenium Explorer ``cell_id`` and ``group``, the domain of the first run. Barcodes are those of the user's file.
    """
    own = obs[(obs["slice"].astype(str) == slice_name).to_numpy()]
    domains = [name for name in own if name == "mosaic_domain" or str(name).startswith(("domain_", "consensus_"))]
    barcodes = own["barcode"].to_numpy()
    loupe = own[[*domains]].set_axis(pd.RangeIndex(len(own)), axis=0)
    loupe.insert(0, "Barcode", barcodes)
    return loupe, pd.DataFrame({"cell_id": barcodes, "group": own["mosaic_domain"].to_numpy()})


def _annotate(obs: pd.DataFrame, annotations: pd.DataFrame | None) -> None:
    if annotations is None:
        return
    for name in annotations:
        obs[name] = spread_column(annotations[name], obs.index)


def _matrices(name: str, counts: Files, runs: Sequence[Run]) -> Iterator[tuple[str, list[tuple[str | Path, str]]]]:
    """Of a modality of the result the key of each matrix, and the matrices of the slices that make it."""
    if name in counts:
        common = set.intersection(*(_layers_of(path) for path in counts[name]))
        yield "X", [(path, "layers/counts" if "counts" in common else "X") for path in counts[name]]
        for layer in sorted(common):
            yield f"layers/{layer}", [(path, f"layers/{layer}") for path in counts[name]]
        return
    measured = name.removesuffix("_imputed")
    for number, run in enumerate(runs):
        for layer in LAYERS:
            sources: list[tuple[str | Path, str]] = [(path, f"layers/{layer}") for path in run.imputed[measured]]
            if not number and layer == LAYERS[0]:
                yield "X", sources
            yield f"layers/{layer}" + (f"_{run.method}_{run.seed}" if number else ""), sources


def _layers_of(path: str | Path) -> set[str]:
    with h5py.File(path) as file:
        return set(file["layers"]) if "layers" in file else set()


def _write_matrix(group: h5py.Group, key: str, sources: Sequence[tuple[str | Path, str]], adata: ad.AnnData) -> None:
    """Write the rows and columns of ``adata`` from the matrices of its slices."""
    places, columns = np.full((adata.n_obs, 2), -1), []
    for number, (path, _) in enumerate(sources):
        outline = read_outline(path)
        rows = adata.obs_names.get_indexer(outline.obs_names)
        places[rows[rows >= 0]] = np.column_stack([np.full(outline.n_obs, number), np.arange(outline.n_obs)])[rows >= 0]
        columns.append(adata.var_names.get_indexer(outline.var_names))
    if (places < 0).any():
        raise ValueError(f"no file has the spot {adata.obs_names[(places < 0).any(axis=1)][0]} of {group.name}")
    *within, name = key.split("/")
    group, most = group["/".join(within)] if within else group, n_values(sources)
    for block in stacked_blocks(sources, places, columns, adata.n_vars):
        append_block(group, name, block, most, compression="lzf")


def _joined(slices: Sequence[ad.AnnData]) -> ad.AnnData:
    """Imputed slices, stacked; if they lack different features, ``varm["imputed"]`` says which of which slice is."""
    slices = [own for own in slices if own.n_vars]
    if all(own.var_names.equals(slices[0].var_names) for own in slices):
        return ad.concat(slices, merge="same")
    adata = ad.concat(slices, join="outer", merge="same", fill_value=0)
    there = {str(own.obs["slice"].iloc[0]): adata.var_names.isin(own.var_names) for own in slices}
    adata.varm["imputed"] = pd.DataFrame(there, index=adata.var_names)
    return adata
