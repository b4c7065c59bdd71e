"""The files of a reference, and the counts in them from which modalities of new slices are imputed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd

from mosaic import __version__, store, tables
from mosaic.analyse.intervals import unit_of
from mosaic.embedding import LATENT, collect_embeddings
from mosaic.manifest import write_manifest
from mosaic.matrices import values_of
from mosaic.spots import stack

Key = tuple[str, str]  # slice and modality


def donors_of(sheet: Mapping[str, Sequence[str]], method: str) -> list[Key]:
    """Slices and modalities whose counts a reference keeps, for imputation.

    Parameters
    ----------
    sheet
        Per slice its modalities.
    method
        Of ``impute.ImputationSettings``. ``matching`` has the spots with two modalities as donors; without a slice of
        two, and for ``nearest``, all spots are.
    """
    bridges = [name for name, own in sheet.items() if len(own) > 1]
    kept = bridges if method == "matching" and bridges else list(sheet)
    return [(name, modality) for name in kept for modality in sheet[name]]


def donor_counts(slices: Sequence[ad.AnnData], modality: str, scores: pd.DataFrame | None = None) -> ad.AnnData:
    """Counts of a modality's donors, and what is known of the errors of imputed counts.

    Parameters
    ----------
    slices
        Of the modality, after quality control.
    modality
        Its name.
    scores
        Held-out scores per feature (``folds.summarise``); None or empty without held-out validation.

    Returns
    -------
    AnnData (spots x features) with ``layers["counts"]`` (kind ``features``: X); ``var`` as of imputed counts.
    """
    adata = stack(slices, modality)
    var = adata.var[["gene_id"] if "gene_id" in adata.var else []].assign(unit=unit_of(values_of(adata)))
    if scores is not None and len(scores):
        var = var.join(scores)
        var["better_than_mean"] = var["better_than_mean"].eq(True)
    kept = {"layers": {"counts": adata.layers["counts"]}} if "counts" in adata.layers else {"X": adata.X}
    return ad.AnnData(obs=adata.obs[["slice", "barcode"]], var=var, **kept)


def write_reference(
    folder: str | Path,
    features: Mapping[str, ad.AnnData],
    spots: ad.AnnData,
    counts: Mapping[str, ad.AnnData],
    told: Mapping[str, Any],
) -> None:
    """Write all files of a reference but the model, which is there, and ``reference.json``.

    Parameters
    ----------
    folder
        Where ``model.safetensors`` lies.
    features, counts
        Per modality, see ``mapped_domains.reference_features`` and ``donor_counts``.
    spots
        See ``mapped_domains.reference_spots``.
    told
        ``seed``, ``config``, ``slices``, ``domains``, ``checks`` and ``versions`` for the manifest.
    """
    folder = Path(folder)
    for name, adata in features.items():
        store.write(adata, folder / f"features.{name}.h5ad")
    for name, adata in counts.items():
        store.write(adata, folder / f"counts.{name}.h5ad")
    store.write(spots, folder / "spots.h5ad")
    write_manifest(folder, {"version": __version__, **told, "counts": sorted(counts)})


def told_of(labels: tables.DomainLabels, checks: pd.DataFrame) -> dict[str, Any]:
    """``domains`` and ``checks`` for ``reference.json``.

    Parameters
    ----------
    labels
        Of the run.
    checks
        As ``checks.run_checks`` returns them.
    """
    colours = {number: labels.colours[name] for number, name in labels.names.items()}
    values = checks["value"].astype(object).where(checks["value"].notna(), None)
    rows = checks[["check", "status"]].assign(value=values).to_dict("records")
    return {"domains": {"names": labels.names, "colours": colours}, "checks": rows}


def linked_embedding(embedding: md.MuData, features: Mapping[str, ad.AnnData], modalities: Sequence[str]) -> md.MuData:
    """The latent space of new spots and of the reference together, as ``impute.plan_modality`` reads it.

    Parameters
    ----------
    embedding
        Of new spots, as ``model.embed_new`` returns it.
    features
        Per modality, as ``reference_features`` returns it.
    modalities
        Those wanted.
    """
    graphs, latent = {}, {}
    for name in modalities:
        parts = [features[name], *([embedding[name]] if name in embedding.mod else [])]
        obsm = {key: np.vstack([np.asarray(part.obsm[key]) for part in parts]) for key in ("spatial", LATENT)}
        both = ad.concat([ad.AnnData(obs=part.obs[["slice", "barcode"]].astype(str)) for part in parts])
        graphs[name] = ad.AnnData(obs=both.obs, obsm={"spatial": obsm["spatial"]})
        latent[name] = obsm[LATENT]
    return collect_embeddings(graphs, latent)


def counts_to_impute(
    modality: str, sources: Sequence[str], donors: Mapping[str, ad.AnnData], own: Mapping[str, ad.AnnData]
) -> dict[str, ad.AnnData]:
    """Counts that an imputation in a new slice reads: of the modality, and of each source those of the slice, too.

    Parameters
    ----------
    modality
        What is imputed.
    sources
        Modalities of the slice.
    donors
        Per modality, as ``donor_counts`` returns it.
    own
        Per source the counts of the slice, after quality control.
    """
    counts = {modality: donors[modality]}
    for name in sources:
        if name in donors:
            slices = donors[name].obs["slice"]
            parts = [donors[name][(slices == each).to_numpy()].copy() for each in slices.cat.categories]
            counts[name] = stack([*parts, own[name]], name)
        else:
            counts[name] = own[name]
    return counts
