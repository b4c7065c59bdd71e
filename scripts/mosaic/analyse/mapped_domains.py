"""A reference: what a later run needs to give new slices its domains, and how far to believe them."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.preprocessing import normalize

from mosaic.analyse.alignment import align_domains, domain_centres
from mosaic.analyse.metrics import foscttm
from mosaic.analyse.random_field import FieldModel, View, assign_domains, field_model, views_of
from mosaic.colours import COLOURS
from mosaic.embedding import LATENT, collect_embeddings
from mosaic.mixing import ilisi_between
from mosaic.neighbors import nearest
from mosaic.spatial import tissue_neighbors
from mosaic.spots import beside_reference, slice_names

# Number of the domain of spots that lie too far from the reference, its name, and its colour.
UNASSIGNED, UNASSIGNED_NAME, _GREY = -1, "unassigned", "#c0c0c0"

# A spot's distance is the mean to so many of the reference, after averaging over so many neighbours on the tissue.
_NEAREST, _SMOOTHED = 5, 6
# Share of the reference's own spots that lie nearer to its other slices than the limit.
_WITHIN = 0.99
# Spots of the reference on whose UMAP coordinates a new spot is placed.
_ANCHORS = 10


def reference_features(reduced: ad.AnnData, embedding: md.MuData, modality: str) -> ad.AnnData:
    """What maps new slices of a modality: features as reduced, with latent coordinates and the limit of distances.

    Parameters
    ----------
    reduced
        As ``reduce.reduce_modality`` returns it.
    embedding
        Of the run.
    modality
        Its name.

    Returns
    -------
    AnnData of the modality's spots without X, as ``reduced`` without ``obsm["X_reduced"]``, with
    ``obsm["X_latent"]``; ``uns["limit"]``, the distance to the spots of other slices within which 99 % of the spots
    lie (``distances``).
    """
    obsm = {key: reduced.obsm[key] for key in ("spatial", "X_corrected")}
    obsm[LATENT] = np.asarray(embedding[modality][reduced.obs_names].obsm[LATENT])
    obs = reduced.obs[["slice", "barcode"]]
    smooth, slices = _smoothed(obsm["X_corrected"], obsm["spatial"], obs["slice"]), obs["slice"].to_numpy(dtype=str)
    if len(np.unique(slices)) == 1:
        # The halves of a single slice stand for slices.
        longer = obsm["spatial"][:, np.ptp(obsm["spatial"], axis=0).argmax()]
        slices = np.where(longer > np.median(longer), "a", "b")
    found = np.concatenate([_distance(smooth[slices == own], smooth[slices != own]) for own in np.unique(slices)])
    uns = dict(reduced.uns) | {"limit": float(np.quantile(found, _WITHIN))}
    return ad.AnnData(obs=obs, var=reduced.var, obsm=obsm, varm=dict(reduced.varm), uns=uns)


def distances(mapped: ad.AnnData, reference: ad.AnnData) -> np.ndarray:
    """How far each new spot lies from the reference, in units of its limit: above 1, it is out of distribution.

    The mean distance to the five nearest spots of the reference in corrected features, averaged over the spot and its
    neighbours on the tissue.

    Parameters
    ----------
    mapped
        New slices of a modality: ``obsm["X_corrected"]``, ``obsm["spatial"]``, ``obs["slice"]``.
    reference
        As ``reference_features`` returns it.
    """
    ours, theirs = (
        _smoothed(part.obsm["X_corrected"], part.obsm["spatial"], part.obs["slice"]) for part in (mapped, reference)
    )
    return _distance(ours, theirs) / reference.uns["limit"]


def _distance(queries: np.ndarray, among: np.ndarray) -> np.ndarray:
    return nearest(queries, among, _NEAREST)[0].mean(axis=1)


def _smoothed(features: np.ndarray, coordinates: np.ndarray, slices: pd.Series) -> np.ndarray:
    """Features averaged over each spot and its neighbours on the tissue (spots x features)."""
    near = tissue_neighbors(np.asarray(coordinates, dtype=np.float64), slices.to_numpy(dtype=str), _SMOOTHED)
    return np.asarray(normalize(near + sparse.eye_array(len(features)), norm="l1") @ features, dtype=np.float32)


def reference_spots(
    embedding: md.MuData,
    graphs: Mapping[str, ad.AnnData],
    domains: pd.DataFrame,
    umap: pd.DataFrame,
    confidence: pd.DataFrame | None,
    *,
    views: bool,
) -> ad.AnnData:
    """What gives new spots a domain, a place in the UMAP and a confidence.

    Parameters
    ----------
    embedding, graphs
        Of the run.
    domains, umap, confidence
        Tables of the run, by spot: ``domain``; two coordinates; ``domain``, ``modalities`` and ``agreement``, or None
        without held-out validation.
    views
        Whether the domains came from what the modalities measure and from the tissue, as those of ``tissue``, or from
        the latent space.

    Returns
    -------
    AnnData of all spots without X: ``obs["slice"]``, ``obs["modalities"]``, ``obs["domain"]``; ``obsm["X_latent"]``,
    ``obsm["X_umap"]``; ``uns["field"]`` with the fields of ``FieldModel``, ``uns["centres"]`` of the aligned latent
    space (``alignment.domain_centres``), and ``uns["agreement"]``, per modalities the agreement of each domain.
    """
    spots = embedding.obs_names
    labels = domains.loc[spots, "domain"].to_numpy()
    latent = np.asarray(embedding.obsm[LATENT], dtype=np.float32)
    if views:
        seen = dict(zip(graphs, views_of(graphs, spots, centred=False), strict=True))
    else:
        seen = {LATENT: View(np.arange(len(spots)), latent)}
    model = field_model(
        seen, np.asarray(embedding.obsm["spatial"]), embedding.obs["slice"].to_numpy(), labels, tissue=views
    )
    agreement: dict[str, dict[str, float]] = {}
    if confidence is not None:
        for own, table in confidence[confidence["agreement"].notna()].groupby("modalities"):
            values = table.groupby("domain")["agreement"].first()
            agreement[str(own)] = {str(domain): float(value) for domain, value in values.items()}
    numbers = pd.factorize(embedding.obs["slice"].astype(str))[0]
    posterior = (labels[:, None] == model.domains).astype(float)
    own = [(spots.get_indexer(part.obs_names), part.obsm[LATENT]) for part in embedding.mod.values()]
    return ad.AnnData(
        obs=embedding.obs[["slice", "barcode", "modalities"]].assign(domain=labels),
        obsm={LATENT: latent, "X_umap": umap.loc[spots].to_numpy(dtype=np.float32)},
        uns={"field": model._asdict(), "centres": domain_centres(own, numbers, posterior)[0], "agreement": agreement},
    )


def domain_names(domains: pd.Series, told: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Names and colours of the domains of new slices, as of rule ``name_domains``.

    Parameters
    ----------
    domains
        Number of each spot's domain.
    told
        ``names`` and ``colours`` of the reference's domains, by their numbers.

    Returns
    -------
    Per ``domain``: ``name``, its ``counterpart`` in the reference, ``shared``, which is 1, and ``colour``.
    """
    numbers = np.unique(domains)
    # A reference that was made in Python has no names and colours: they are those that figures give to numbers.
    known, colouring = told.get("names", {}), told.get("colours", {})
    plain = dict(enumerate(COLOURS))
    names = [UNASSIGNED_NAME if number == UNASSIGNED else known.get(str(number), str(number)) for number in numbers]
    colours = [colouring.get(str(number), plain.get(number, _GREY)) for number in numbers]
    table = pd.DataFrame({"name": names, "counterpart": numbers, "shared": 1.0, "colour": colours}, index=numbers)
    table.index.name = "domain"
    return table


class MappedDomains(NamedTuple):
    """Domains of new slices.

    Attributes
    ----------
    table
        Per spot ``slice``, ``domain`` (``UNASSIGNED`` if it lies too far from the reference), ``probability`` of that
        domain, and ``distance``, see ``distances``: of the modality that is farther.
    aligned
        The latent space moved to the domains of the reference, as ``alignment.aligned_embedding``.
    umap
        Place of each spot in the UMAP of the reference.
    confidence
        ``table`` with ``modalities``, ``agreement`` and ``confidence``, as ``confidence.calibrate`` gives them: the
        agreement of the reference's hidden spots with the same modalities and domain.
    slices
        Per slice: ``found``, the least share of the reference's features that it measured; ``by_id``, the largest share
        that its files name otherwise, matched by identifiers or symbols; ``agreement``, the least
        correlation of their means with the reference's over its modalities; ``relative``, the least ratio of that to
        the reference's own slices, and ``ilisi_before``, the iLISI with the reference before the correction in that
        modality; ``near``, the share of its
        spots within the limit; ``ilisi`` with the reference in the latent space; ``foscttm`` of its own pairs of
        modalities that encoders have not seen, missing where it has one; ``unassigned``, the share of its spots without
        a domain.
    """

    table: pd.DataFrame
    aligned: md.MuData
    umap: pd.DataFrame
    confidence: pd.DataFrame
    slices: pd.DataFrame


def map_domains(
    embedding: md.MuData,
    graphs: Mapping[str, ad.AnnData],
    mapped: Mapping[str, ad.AnnData],
    references: Mapping[str, ad.AnnData],
    spots: ad.AnnData,
) -> MappedDomains:
    """Domains of new slices by the model of a reference, and how far to believe them.

    Parameters
    ----------
    embedding
        Of the new spots, as ``model.embed_new`` returns it.
    graphs
        Per modality, as ``graph.link_to_reference`` returns it.
    mapped
        Per modality, as ``mapping.map_modality`` returns it.
    references
        Per modality, as ``reference_features`` returns it.
    spots
        As ``reference_spots`` returns it.
    """
    model = FieldModel(**spots.uns["field"])
    names, coordinates = embedding.obs_names, np.asarray(embedding.obsm["spatial"], dtype=np.float64)
    slices = embedding.obs["slice"].to_numpy(dtype=str)
    latent = np.asarray(embedding.obsm[LATENT], dtype=np.float32)
    distance = np.zeros(len(names))
    for name, own in mapped.items():
        rows = names.get_indexer(own.obs_names)
        distance[rows] = np.maximum(distance[rows], distances(own, references[name]))
    posterior = np.zeros((len(names), len(model.domains)))
    for own in slice_names(embedding.obs):
        rows = np.flatnonzero(slices == own)
        if LATENT in model.means:
            parts = {LATENT: View(np.arange(len(rows)), latent[rows])}
        else:
            measured = {name: graph for name, graph in graphs.items() if own in set(graph.obs["slice"])}
            linked = {name: beside_reference(graph, own) for name, graph in measured.items()}
            parts = dict(zip(linked, views_of(linked, names[rows], centred=False), strict=True))
        posterior[rows] = assign_domains(model, parts, coordinates[rows])
    domain = np.asarray(model.domains)[posterior.argmax(axis=1)]
    domain[distance > 1] = UNASSIGNED
    table = pd.DataFrame(
        {"slice": slices, "domain": domain, "probability": posterior.max(axis=1), "distance": distance}, index=names
    )
    return MappedDomains(
        table,
        _aligned(embedding, posterior, spots.uns["centres"]),
        pd.DataFrame(_placed(latent, spots), index=names, columns=["UMAP1", "UMAP2"]),
        _with_confidence(table, embedding.obs["modalities"], spots.uns["agreement"]),
        _by_slice(table, embedding, mapped, spots),
    )


def _aligned(embedding: md.MuData, posterior: np.ndarray, centres: np.ndarray) -> md.MuData:
    """The latent space with each slice and modality moved to the reference's domains."""
    numbers = pd.factorize(embedding.obs["slice"].astype(str))[0]
    latent = {name: np.asarray(part.obsm[LATENT]) for name, part in embedding.mod.items()}
    rows = [embedding.obs_names.get_indexer(part.obs_names) for part in embedding.mod.values()]
    moved = align_domains(list(zip(rows, latent.values(), strict=True)), numbers, posterior, np.asarray(centres))
    return collect_embeddings(embedding.mod, dict(zip(latent, moved, strict=True)))


def _placed(latent: np.ndarray, spots: ad.AnnData) -> np.ndarray:
    """Places in the UMAP of the reference: the mean of those of the nearest spots, the nearer the heavier."""
    distance, near = nearest(latent, np.asarray(spots.obsm[LATENT]), _ANCHORS)
    weight = np.exp(-((distance / np.maximum(distance[:, -1:], np.finfo(np.float32).tiny)) ** 2))
    places = (weight[:, :, None] * np.asarray(spots.obsm["X_umap"])[near]).sum(axis=1) / weight.sum(axis=1)[:, None]
    return places.astype(np.float32)


def _with_confidence(
    table: pd.DataFrame, modalities: pd.Series, agreement: Mapping[str, Mapping[str, float]]
) -> pd.DataFrame:
    """The table with the reference's agreement, and with the confidence of each spot; 0 for one without a domain."""
    # The sheet of the new slices may list modalities in another order.
    told = {frozenset(own.split("+")): values for own, values in agreement.items()}
    known = [
        told.get(frozenset(own.split("+")), {}).get(str(domain), np.nan)
        for own, domain in zip(modalities.loc[table.index].astype(str), table["domain"], strict=True)
    ]
    found = table.assign(agreement=known)
    found.insert(1, "modalities", modalities.loc[table.index].astype(str))
    found["confidence"] = found["probability"] * found["agreement"].fillna(1)
    found.loc[found["domain"] == UNASSIGNED, "confidence"] = 0.0
    return found


def _own_pairs(embedding: md.MuData, spots: pd.Index) -> float:
    """FOSCTTM of the pairs of modalities of a slice that encoders have not seen, mean over them; NaN if it has one."""
    found = []
    if "tuned" in embedding.obs:
        spots = spots[~embedding.obs.loc[spots, "tuned"].to_numpy(dtype=bool)]
    for first, second in combinations(embedding.mod.values(), 2):
        both = spots[spots.isin(first.obs_names) & spots.isin(second.obs_names)]
        if len(both) > 1:
            found.append(foscttm(*(np.asarray(part[both].obsm[LATENT]) for part in (first, second))))
    return float(np.mean(found)) if found else np.nan


def _by_slice(
    table: pd.DataFrame, embedding: md.MuData, mapped: Mapping[str, ad.AnnData], spots: ad.AnnData
) -> pd.DataFrame:
    latent = np.asarray(embedding.obsm[LATENT], dtype=np.float32)
    rows = []
    for name, own in table.groupby("slice", sort=False):
        records = [part.uns["mapping"][name] for part in mapped.values() if name in part.uns["mapping"]]
        here = latent[embedding.obs_names.get_indexer(own.index)]
        least = min(records, key=lambda record: np.nan_to_num(float(record["relative"]), nan=np.inf))
        rows.append(
            {
                "slice": name,
                "found": min(float(record["found"]) for record in records),
                "by_id": max(float(record["by_id"]) for record in records),
                "agreement": pd.Series([float(record["agreement"]) for record in records]).min(),
                "relative": float(least["relative"]),
                "ilisi_before": float(least["ilisi_before"]),
                "near": float((own["distance"] <= 1).mean()),
                "ilisi": ilisi_between(here, np.asarray(spots.obsm[LATENT])),
                "foscttm": _own_pairs(embedding, own.index),
                "unassigned": float((own["domain"] == UNASSIGNED).mean()),
            }
        )
    return pd.DataFrame(rows)
