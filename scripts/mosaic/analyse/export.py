"""The result file: one MuData with counts, latent spaces, domains, UMAPs and imputed counts of a run."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import anndata as ad
import mudata as md
import pandas as pd

from mosaic import __version__
from mosaic.embedding import LATENT
from mosaic.spots import spread_column
from mosaic.tables import DomainLabels


class Run(NamedTuple):
    """Results of one method with one seed; ``labels``: names and colours of its domains."""

    method: str
    seed: int
    embedding: md.MuData
    aligned: md.MuData
    domains: pd.Series
    umap: pd.DataFrame
    imputed: Mapping[str, Sequence[ad.AnnData]]
    labels: DomainLabels


def assemble_mudata(
    counts: Mapping[str, ad.AnnData],
    reduced: Mapping[str, ad.AnnData],
    runs: Sequence[Run],
    consensus: Mapping[str, pd.DataFrame],
    config: Mapping,
    annotations: pd.DataFrame | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> md.MuData:
    """Assemble the results of a run for muon, and its modalities for scanpy and squidpy.

    Parameters
    ----------
    counts
        Per modality its slices after QC, stacked, with ``layers["counts"]`` (kind ``features``: X alone).
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

    Returns
    -------
    MuData. Per modality the measured spots with counts in X and ``layers["counts"]`` and features in ``obsm``; and,
    if slices lack it or features of it, a second modality ``{modality}_imputed`` with ``layers["imputed"]`` (X too) and
    ``layers["imputed_sd"]`` of the first run, ``layers["imputed_{method}_{seed}"]`` of further ones. Where slices
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
    for name, stacked in counts.items():
        adata = ad.AnnData(
            stacked.layers.get("counts", stacked.X),
            obs=stacked.obs,
            var=stacked.var,
            obsm={**stacked.obsm, **reduced[name].obsm},
            layers=dict(stacked.layers),
            varm=dict(stacked.varm),
        )
        for run in runs:
            adata.obsm[f"X_{run.method}_{run.seed}"] = run.embedding[name][adata.obs_names].obsm[LATENT]
            adata.obsm[f"X_aligned_{run.method}_{run.seed}"] = run.aligned[name][adata.obs_names].obsm[LATENT]
        _annotate(adata.obs, annotations)
        modalities[name] = adata
        if any(own.n_vars for own in first.imputed.get(name, ())):
            modalities[f"{name}_imputed"] = _imputed(name, runs)
    # Slices that were mapped onto a reference may all lack a modality of it.
    for name in first.imputed:
        if name not in counts:
            modalities[f"{name}_imputed"] = _imputed(name, runs)

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


def _imputed(name: str, runs: Sequence[Run]) -> ad.AnnData:
    adata = _joined(runs[0].imputed[name])
    adata.X = adata.layers["imputed"]
    for run in runs[1:]:
        other = _joined(run.imputed[name])[adata.obs_names, adata.var_names]
        for layer in ("imputed", "imputed_sd"):
            adata.layers[f"{layer}_{run.method}_{run.seed}"] = other.layers[layer]
    return adata


def _joined(slices: Sequence[ad.AnnData]) -> ad.AnnData:
    """Imputed slices, stacked; if they lack different features, ``varm["imputed"]`` says which of which slice is."""
    slices = [own for own in slices if own.n_vars]
    if all(own.var_names.equals(slices[0].var_names) for own in slices):
        return ad.concat(slices, merge="same")
    adata = ad.concat(slices, join="outer", merge="same", fill_value=0)
    there = {str(own.obs["slice"].iloc[0]): adata.var_names.isin(own.var_names) for own in slices}
    adata.varm["imputed"] = pd.DataFrame(there, index=adata.var_names)
    return adata
