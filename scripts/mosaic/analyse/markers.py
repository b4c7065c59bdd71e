"""Marker features of the domains in each slice, and their profile over the domains."""

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

logger = logging.getLogger(__name__)

_FEWEST_SPOTS = 10  # of a domain in a slice, to rank markers
_LEAST_SCORE = 1.96  # in every slice
_MOST_LISTED = 50  # features per domain and slice in the table
_COLUMNS = ["slice", "domain", "feature", "auroc", "score", "difference", "pval_adj", "share_inside", "share_outside"]
_PROFILE_COLUMNS = ["domain", "feature", "mean", "share", "marker_of"]


class Markers(NamedTuple):
    """Features that separate the domains.

    Attributes
    ----------
    table
        Per ``slice`` and ``domain`` the first 50 features by ``auroc``: the probability that a spot of the domain has
        more of the feature than another of the slice, which unlike a p-value does not depend on the size of the domain;
        ``score``, the z-score of Wilcoxon's rank sum (uncorrected for ties, hence conservative), and ``pval_adj``
        (Benjamini and Hochberg); ``difference`` of the means on the normalised (logarithmic) scale; the proportions of
        spots with a count, ``share_inside`` and ``share_outside``. The p-values treat the domains as given, but these
        come from the same counts: use them as a ranking, not as a test.
    profile
        Per ``domain`` and ``feature``, for the best markers of all domains: ``mean`` normalised value and ``share`` of
        spots with a count, each the mean over the slices, missing where all slices of the domain lack the feature;
        ``marker_of`` is the domain that the feature marks: the one with its highest mean AUROC, and its score must be
        above 1.96 in every slice.

    Both are empty, with their columns, if no slice has two domains of ten spots or more.
    """

    table: pd.DataFrame
    profile: pd.DataFrame


def rank_markers(slices: Iterable[ad.AnnData], domains: pd.Series, *, most: int = 40) -> Markers:
    """Rank the features of one modality by how well they mark each domain, slice by slice.

    Slices are ranked separately, so that a batch effect is not mistaken for a marker; a good marker has a high mean
    AUROC over the slices.

    Parameters
    ----------
    slices
        Normalised slices of the modality (log or centred log ratio), with ``layers["counts"]``.
    domains
        Domain of each spot, by name; may include spots of other slices.
    most
        Maximum number of features in the profile, divided equally over the domains.
    """
    tables, means, shares = [], {}, {}
    for adata in slices:
        name = str(adata.obs["slice"].iloc[0])
        own = domains[adata.obs_names].astype(str).to_numpy()
        sizes = pd.Series(own).value_counts()
        large = sizes.index[sizes >= _FEWEST_SPOTS]
        for domain in large:
            rows = own == domain
            means[name, domain] = pd.Series(np.asarray(adata.X[rows].mean(axis=0)).ravel(), adata.var_names)
            there = (adata.layers["counts"][rows] > 0).mean(axis=0)
            shares[name, domain] = pd.Series(np.asarray(there).ravel(), adata.var_names)
        if len(large) < 2:
            logger.warning("%s has one domain only: no markers", name)
            continue
        tables += _ranked(adata, own, name, large)
    if not tables:
        logger.warning("no slice has two domains of %d spots or more, so nothing can mark one", _FEWEST_SPOTS)
        return Markers(pd.DataFrame(columns=_COLUMNS), pd.DataFrame(columns=_PROFILE_COLUMNS))
    each = pd.concat(tables, ignore_index=True)
    profile = _profile(each, means, shares, most)
    each["place"] = each.groupby(["slice", "domain"]).cumcount()
    return Markers(each[each.pop("place") < _MOST_LISTED].reset_index(drop=True), profile)


def _ranked(adata: ad.AnnData, domains: np.ndarray, name: str, large: Sequence[str]) -> list[pd.DataFrame]:
    """All features of a slice, best first, for each of its larger domains."""
    work = ad.AnnData(adata.X, obs=pd.DataFrame({"domain": pd.Categorical(domains)}, adata.obs_names), var=adata.var)
    work.obs_names = adata.obs_names
    large = sorted(large)
    sc.tl.rank_genes_groups(work, "domain", groups=large, method="wilcoxon", use_raw=False, pts=True)
    tables = []
    for domain in large:
        found = sc.get.rank_genes_groups_df(work, domain)
        rows = domains == domain
        difference = np.asarray(adata.X[rows].mean(axis=0) - adata.X[~rows].mean(axis=0)).ravel()
        table = found[["names", "scores", "pvals_adj", "pct_nz_group", "pct_nz_reference"]]
        table.columns = ["feature", "score", "pval_adj", "share_inside", "share_outside"]
        n_inside = int(rows.sum())
        # Wilcoxon's z is linear in its rank sum, and that in the AUROC.
        spread = np.sqrt((len(rows) + 1) / (12 * n_inside * (len(rows) - n_inside)))
        table.insert(1, "auroc", 0.5 + table["score"] * spread)
        table.insert(3, "difference", pd.Series(difference, adata.var_names)[table["feature"]].to_numpy())
        table.insert(0, "domain", domain)
        table.insert(0, "slice", name)
        tables.append(table[_COLUMNS])
    return tables


def _profile(each: pd.DataFrame, means: dict, shares: dict, most: int) -> pd.DataFrame:
    over = each.groupby(["feature", "domain"]).agg(auroc=("auroc", "mean"), score=("score", "min")).unstack("domain")
    best = over["auroc"].idxmax(axis=1)
    surest = pd.Series({feature: over["score"].loc[feature, domain] for feature, domain in best.items()})
    chosen = over["auroc"].max(axis=1)[surest > _LEAST_SCORE].sort_values(ascending=False, kind="stable")
    per_domain = max(most // best.nunique(), 1)
    marker_of: dict[str, str] = {}
    for domain in sorted(best.unique(), key=int):
        marker_of |= dict.fromkeys(chosen.index[best[chosen.index] == domain][:per_domain], domain)
    rows = []
    for domain in sorted({domain for _, domain in means}, key=int):
        over = [[table[key] for key in table if key[1] == domain] for table in (means, shares)]
        for feature, marked in marker_of.items():
            found = [[series[feature] for series in table if feature in series] for table in over]
            rows.append((domain, feature, *(np.mean(own) if own else np.nan for own in found), marked))
    return pd.DataFrame(rows, columns=_PROFILE_COLUMNS)
