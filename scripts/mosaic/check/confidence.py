"""How sure a spot's domain is, given what its slice measured: calibrated on what the self-check hid.

The posterior of a clustering says how clearly a spot lies in a domain, not whether its modalities can see that domain
at all. The self-check knows: it embeds spots of bridge slices from a part of their modalities, and how often the domain
that they are called then is the one that all their modalities gave them, domain by domain, is what the posterior of
other spots with the same modalities is multiplied by.
"""

import logging
from collections.abc import Iterable

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mosaic.embedding import LATENT

logger = logging.getLogger(__name__)

# Hidden spots by which a domain's agreement is drawn to that of all domains with the same modalities.
_PRIOR_SPOTS = 10
# Two domains can't be told apart where of this many hidden spots at least, called one, this share is the other.
LEAST_SPOTS, LEAST_SHARE = 10, 0.25
CALLS = ["modalities", "called", "domain", "n_spots", "share"]


def hidden_calls(domains: pd.DataFrame, modalities: pd.Series, fold: ad.AnnData) -> pd.DataFrame:
    """The domains that hidden spots are called without what was hidden of them.

    The domains of all other spots are the means of a Gaussian each, with one covariance, in the fold's latent space:
    the model of the tied mixture, with its labels given. So they keep their names, and however they were found, hidden
    spots are called after them.

    Parameters
    ----------
    domains
        ``domain`` of each spot, as the run found it, and ``probability`` if it has one.
    modalities
        Of each spot, joined by ``+``: what it was embedded by in the run.
    fold
        As ``selfcheck.Fold.embedding``; without spots where the fold was left out.

    Returns
    -------
    DataFrame of hidden spots: ``modalities``, by which the fold embedded them; ``called`` and its ``posterior``; and
    ``domain``, which the run found by all modalities. The posterior is 1 where the run has none. Spots of domains that
    no other spot has are not among them: nothing could be called so.
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
        called, posterior = model.classes_[posterior.argmax(axis=1)], posterior.max(axis=1)
    else:
        called, posterior = np.repeat(seen, hidden.sum()), np.ones(hidden.sum())
    if "probability" not in domains:
        posterior = np.ones(len(called))
    known = np.isin(found[hidden], seen)
    if not known.all():
        logger.info("%d hidden spots are of domains that no other spot has: they are left out", (~known).sum())
    values = (by[hidden], called, posterior, found[hidden])
    return pd.DataFrame(dict(zip(columns, values, strict=True)), index=fold.obs_names[hidden])[known]


def calibrate(domains: pd.DataFrame, modalities: pd.Series, calls: pd.DataFrame) -> pd.DataFrame:
    """Multiply each spot's posterior by how often hidden spots with its modalities keep the domain they are called.

    Parameters
    ----------
    domains, modalities
        As for ``hidden_calls``, with ``slice``.
    calls
        Of all folds, as ``hidden_calls`` gives them.

    Returns
    -------
    ``domains`` with two columns more. ``agreement``: of hidden spots with these modalities, called this domain, the
    share to which all modalities gave it, over their mean posterior, drawn to that of all domains where spots are few;
    missing where no fold hid spots down to these modalities. ``confidence``: posterior times agreement; the posterior
    alone where the latter is missing; missing where both are.
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
    # Where the run has no posterior, agreement is all that is known.
    posterior = domains.get("probability", pd.Series(1.0, index=domains.index).where(agreement.notna()))
    return domains.assign(agreement=agreement, confidence=posterior * agreement.fillna(1))


def called_by(calls: pd.DataFrame) -> pd.DataFrame:
    """What hidden spots called one domain are by all modalities.

    Parameters
    ----------
    calls
        Of all folds, as ``hidden_calls`` gives them.

    Returns
    -------
    DataFrame with ``modalities``, ``called``, ``domain``, ``n_spots`` and ``share``, which sums to 1 over the domains.
    """
    keys = ["modalities", "called"]
    counts = calls.groupby([*keys, "domain"]).size().rename("n_spots").reset_index()
    return counts.assign(share=counts["n_spots"] / counts.groupby(keys)["n_spots"].transform("sum"))[CALLS]


def together(calls: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The calls of several folds."""
    return pd.concat(list(calls) or [pd.DataFrame(columns=["modalities", "called", "posterior", "domain"])])


def taken_for_others(calls: pd.DataFrame, spots: pd.DataFrame) -> pd.DataFrame:
    """Which domains hidden spots are called in place of others, with the modalities of slices of the run.

    Parameters
    ----------
    calls
        As ``called_by`` gives them.
    spots
        ``slice`` and ``modalities`` of each spot.

    Returns
    -------
    The rows of ``calls`` in which the call is not the domain, largest share first: of modalities that a slice has at
    ``LEAST_SPOTS`` spots or more, and of domains that as many hidden spots are called; with ``slices``, the names of
    these slices, joined by commas. A domain that is called in place of no other has one row, with a share of 0.
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
