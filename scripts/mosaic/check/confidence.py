"""Confidence of a spot's domain given the modalities of its slice, calibrated by held-out validation.

The posterior of a clustering says how clearly a spot lies in a domain, not whether its modalities can see that domain.
Held-out validation embeds spots of bridge slices from a subset of their modalities and assigns them to domains. The
proportion of them whose domain agrees with that from all modalities, per domain, multiplies the posterior of other
spots with the same modalities.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import normalize

from mosaic.analyse.random_field import View, averages, fit_field, views_of
from mosaic.embedding import LATENT

logger = logging.getLogger(__name__)

# Pseudo-count of hidden spots that shrinks a domain's agreement towards that of all domains with the same modalities.
_PRIOR_SPOTS = 10
# Two domains are inseparable if, of at least this many hidden spots assigned to one, this proportion belongs to the
# other.
LEAST_SPOTS, LEAST_SHARE = 10, 0.25
CALLS = ["modalities", "called", "domain", "n_spots", "share"]


class Tissue(NamedTuple):
    """What the tissue field looks at.

    Attributes
    ----------
    spots
        Names of all spots.
    views
        By modality: see ``random_field.View``.
    graph
        Average over the neighbours on the tissue (spots x spots).
    slices
        Number of each spot's slice.
    """

    spots: pd.Index
    views: Mapping[str, View]
    graph: sparse.csr_matrix
    slices: np.ndarray


def tissue_of(embedding: md.MuData, graphs: Mapping[str, ad.AnnData]) -> Tissue:
    """What the tissue field of a run looked at, from its embedding and its graphs."""
    slices = pd.factorize(embedding.obs["slice"].astype(str))[0]
    views = dict(zip(graphs, views_of(graphs, embedding.obs_names), strict=True))
    graph = averages(embedding.obsm["spatial"], slices)
    return Tissue(embedding.obs_names, views, graph, slices)


def hidden_calls(
    domains: pd.DataFrame, modalities: pd.Series, fold: ad.AnnData, tissue: Tissue | None = None
) -> pd.DataFrame:
    """Assign hidden spots to domains without the hidden modality.

    Each domain of the other spots is a Gaussian in the latent space of the fold, all with one covariance: the model of
    the tied mixture with known labels. The domains therefore keep their names, whatever method found them. If the
    tissue field found them, it calls the hidden spots, too: from there, without their hidden modality, while all other
    spots keep their domains.

    Parameters
    ----------
    domains
        ``domain`` of each spot in the run, and ``probability`` if the clustering has one.
    modalities
        Modalities that the run embedded each spot by, joined by ``+``.
    fold
        As ``folds.Fold.embedding``; without spots if the fold was skipped.
    tissue
        What the tissue field looks at, if it found the domains.

    Returns
    -------
    DataFrame of hidden spots: ``modalities``, by which the fold embedded them; ``called``, the assigned domain, and its
    ``posterior``; and ``domain``, from all modalities. The posterior is 1 if the run has none. Excluded are spots of
    domains that no other spot has, because no spot can be assigned to them.
    """
    columns = ["modalities", "called", "posterior", "domain"]
    if not fold.n_obs:
        return pd.DataFrame(columns=columns)
    found = domains.loc[fold.obs_names, "domain"].to_numpy()
    by = fold.obs["modalities"].astype(str).to_numpy()
    hidden = by != modalities.loc[fold.obs_names].astype(str).to_numpy()
    latent = np.asarray(fold.obsm[LATENT], dtype=np.float64)
    seen = np.unique(found[~hidden])
    if len(seen) > 1:
        model = LinearDiscriminantAnalysis().fit(latent[~hidden], found[~hidden])
        posterior = model.predict_proba(latent[hidden])
        if tissue is not None:
            names = fold.obs_names[hidden]
            without = set(modalities.loc[names[0]].split("+")) - set(by[hidden][0].split("+"))
            posterior = _called_by_field(tissue, domains["domain"], seen, names, without, posterior)
        called, posterior = seen[posterior.argmax(axis=1)], posterior.max(axis=1)
    else:
        called, posterior = np.repeat(seen, hidden.sum()), np.ones(hidden.sum())
    if "probability" not in domains:
        posterior = np.ones(len(called))
    known = np.isin(found[hidden], seen)
    if not known.all():
        logger.info("excluded %d hidden spots of domains that no other spot has", (~known).sum())
    values = (by[hidden], called, posterior, found[hidden])
    return pd.DataFrame(dict(zip(columns, values, strict=True)), index=fold.obs_names[hidden])[known]


def _called_by_field(
    tissue: Tissue, domains: pd.Series, seen: np.ndarray, hidden: pd.Index, without: set[str], start: np.ndarray
) -> np.ndarray:
    """Probabilities of the ``seen`` domains for hidden spots (hidden x seen), from a start of that shape.

    Hidden spots have hidden neighbours alone. The domains of others come from all modalities and would tell theirs; a
    slice that lacks the modality has no such neighbours.
    """
    rows = tissue.spots.get_indexer(hidden)
    free = np.isin(np.arange(len(tissue.spots)), rows)
    # A spot of a domain that only hidden spots have is hidden, and is free.
    posterior = (domains.loc[tissue.spots].to_numpy()[:, None] == seen).astype(float)
    posterior[rows] = start
    views = []
    for name, view in tissue.views.items():
        kept = ~free[view.rows] if name in without else slice(None)
        views.append(View(view.rows[kept], view.features[kept]))
    edges = tissue.graph.tocoo()
    alike = free[edges.row] == free[edges.col]
    places = (edges.row[alike], edges.col[alike])
    graph = normalize(sparse.csr_matrix((edges.data[alike], places), shape=edges.shape), norm="l1")
    return fit_field(views, graph, tissue.slices, posterior, free=free).posterior[rows]


def calibrate(domains: pd.DataFrame, modalities: pd.Series, calls: pd.DataFrame) -> pd.DataFrame:
    """Multiply each spot's posterior by the agreement of hidden spots with the same modalities and domain.

    Parameters
    ----------
    domains, modalities
        As for ``hidden_calls``, with ``slice``.
    calls
        Of all folds, as ``hidden_calls`` returns them.

    Returns
    -------
    ``domains`` with two more columns. ``agreement``: of the hidden spots with these modalities that were assigned to
    this domain, the proportion that has it by all modalities, divided by their mean posterior and shrunk towards that
    of all domains; missing if no fold has hidden spots with these modalities. ``confidence``: posterior times
    agreement; the posterior alone if agreement is missing; missing if both are.
    """
    agreement = pd.Series(np.nan, index=domains.index)
    spot_modalities = modalities.loc[domains.index].astype(str)
    for own, among in calls.groupby("modalities"):
        right = among["called"] == among["domain"]
        overall = right.sum() / among["posterior"].sum()
        sums = pd.DataFrame({"right": right, "posterior": among["posterior"]}).groupby(among["called"]).sum()
        share = (sums["right"] + _PRIOR_SPOTS * overall) / (sums["posterior"] + _PRIOR_SPOTS)
        rows = spot_modalities == own
        agreement[rows] = domains.loc[rows, "domain"].map(share).fillna(overall).clip(upper=1)
    # Without a posterior, confidence is the agreement.
    posterior = domains.get("probability", pd.Series(1.0, index=domains.index).where(agreement.notna()))
    return domains.assign(agreement=agreement, confidence=posterior * agreement.fillna(1))


def called_by(calls: pd.DataFrame) -> pd.DataFrame:
    """Count, for each assigned domain, the domains of its hidden spots by all modalities.

    Parameters
    ----------
    calls
        Of all folds, as ``hidden_calls`` returns them.

    Returns
    -------
    DataFrame with ``modalities``, ``called``, ``domain``, ``n_spots`` and ``share``, which sums to 1 over the domains.
    """
    keys = ["modalities", "called"]
    counts = calls.groupby([*keys, "domain"]).size().rename("n_spots").reset_index()
    return counts.assign(share=counts["n_spots"] / counts.groupby(keys)["n_spots"].transform("sum"))[CALLS]


def together(calls: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the calls of several folds."""
    return pd.concat(list(calls) or [pd.DataFrame(columns=["modalities", "called", "posterior", "domain"])])


def taken_for_others(calls: pd.DataFrame, spots: pd.DataFrame) -> pd.DataFrame:
    """Find domains to which hidden spots of other domains are assigned, for the modalities of slices of the run.

    Parameters
    ----------
    calls
        As ``called_by`` returns them.
    spots
        ``slice`` and ``modalities`` of each spot.

    Returns
    -------
    The rows of ``calls`` with a wrong domain, largest proportion first, and ``slices``, the names of their slices,
    joined by commas. Included are modalities that a slice has at ``LEAST_SPOTS`` or more spots, and domains with as
    many hidden spots. A domain without wrong spots has one row, with a share of 0.
    """
    sizes = spots.groupby(["modalities", "slice"], observed=True).size()
    sizes = sizes[sizes >= LEAST_SPOTS].reset_index()
    slices = sizes.astype({"slice": str}).groupby("modalities")["slice"].agg(", ".join)
    keys = ["modalities", "called"]
    enough = calls.groupby(keys)["n_spots"].transform("sum") >= LEAST_SPOTS
    rows = calls[enough & calls["modalities"].isin(slices.index)]
    right = rows["called"] == rows["domain"]
    mixed = rows[~right].set_index(keys).index
    pure = rows[right & ~rows.set_index(keys).index.isin(mixed)].assign(n_spots=0, share=0.0)
    rows = pd.concat([rows[~right], pure]).sort_values("share", ascending=False, kind="stable")
    return rows.assign(slices=rows["modalities"].map(slices))
