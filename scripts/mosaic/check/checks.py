"""The checks of a run: each has a number, thresholds, a status and a hint."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mosaic.check import agreement
from mosaic.check.confidence import CALLS, LEAST_SHARE, taken_for_others
from mosaic.errors import InputError

# A domain occurs in one slice only if it is at most this proportion of every other slice.
_LEAST_SHARE = 0.01
# A mapped slice shows another tissue if its features agree less with the reference than so many times the least of the
# reference's own slices, and if it lies apart before the batch correction, which can hide that from every distance.
_LEAST_RELATIVE, _LEAST_BEFORE = agreement.GOOD, 0.1
# FOSCTTM beyond which the pairs of a slice decide alone: the mean would hide one slice whose barcodes name other spots.
_APART = 0.4
# Maximum number of inseparable pairs of domains to name.
_MOST_PAIRS = 5


class Check(NamedTuple):
    """One check of a run.

    Attributes
    ----------
    name, meaning
        Name of the check, and description of its number.
    good, bad
        Thresholds: the check passes on the good side of ``good``, fails beyond ``bad``, and warns in between.
    advice
        What the result means and what to do, by status.
    """

    name: str
    meaning: str
    good: float
    bad: float
    advice: Mapping[str, str]

    def status(self, value: float) -> str:
        """Pass, warn or fail; ``not checked`` for NaN."""
        if np.isnan(value):
            return "not checked"
        sign = np.sign(self.good - self.bad)
        return "pass" if sign * (value - self.good) >= 0 else "warn" if sign * (value - self.bad) >= 0 else "fail"


# docs/interpreting.md lists the values measured on good and on bad data; the thresholds lie between them.
CHECKS = (
    Check(
        "features agree",
        "correlation of the features' counts between a slice and the others, for the slice that agrees least",
        agreement.GOOD,
        agreement.BAD,
        {
            "pass": "The same features are high and low in all slices.",
            "warn": "Features of a slice agree little with the others: compare the annotation and the panel of its "
            "files. Names that are wrong for half of the features, and very strong batch effects, look like this.",
            "fail": "Feature names do not mean the same in all slices: don't trust the result, however well the slices "
            "mix. Is the matrix of a file in another order than its names, or of another annotation?",
            "not checked": "The run has one slice, or no modality has 20 shared features with counts.",
        },
    ),
    Check(
        "slices mix",
        "iLISI, 0 to 1: how evenly slices mix among nearest spots",
        0.25,
        0.1,
        {
            "pass": "Spots of different slices mix in the latent space.",
            "warn": "Slices mix poorly. Look at the latent space by slice: if they share tissue, compare "
            "batch_correction harmony and pair_shift, raise graph.inter_knn_base, or select fewer features.",
            "fail": "Slices lie apart: domains and imputed counts follow the slice, not the tissue. Do the slices show "
            "the same tissue? If so, set batch_correction to pair_shift and raise graph.inter_knn_base and graph.w_g.",
            "not checked": "The run has one slice.",
        },
    ),
    Check(
        "modalities align",
        "FOSCTTM (held-out pairs), which training has not seen: 0 is perfect, 0.5 chance",
        0.3,
        _APART,
        {
            "pass": "The modalities of a spot lie near each other, also for pairs that training has not seen.",
            "warn": "Modalities align only loosely: trust domains and imputed counts of slices that lack a modality "
            "less, and see whether a larger train.T helps.",
            "fail": "Modalities of one spot are hardly nearer than those of others. Do the barcodes of the two files "
            "name the same spots? Does each modality show the structure of the tissue?",
            "not checked": "No fold could be made in a bridge slice, checks.imputation is off, or the method is a "
            "baseline.",
        },
    ),
    Check(
        "imputation",
        "proportion of features imputed better than by their mean, on hidden spots",
        0.3,
        0.1,
        {
            "pass": "Use the features with better_than_mean in var; their held-out correlation is pearson_log.",
            "warn": "Most features are imputed no better than by their mean: use those with better_than_mean in var.",
            "fail": "Hardly any feature can be imputed: don't use imputed counts. Does the modality vary over the "
            "tissue, and is its sequencing depth sufficient?",
            "not checked": "No fold could be made in a bridge slice, checks.imputation is off, or the method is a "
            "baseline.",
        },
    ),
    Check(
        "domains told apart",
        "largest proportion of hidden spots assigned to one domain that belong to another by all modalities",
        LEAST_SHARE,
        0.5,
        {
            "pass": "Slices that lack a modality separate the domains nearly as well as bridge slices do.",
            "warn": "Slices that lack a modality confuse some domains: look at the confidence there, not at the border "
            "alone, or merge these domains.",
            "fail": "In slices that lack a modality, most spots assigned to one domain belong to another: don't "
            "interpret these domains separately there, or merge them with a smaller cluster.n_domains.",
            "not checked": "No fold reproduces the modalities of a slice, checks.imputation is off, or the method is a "
            "baseline.",
        },
    ),
)

# Of a run that maps slices onto a reference.
MAPPING = Check(
    "mapping",
    "proportion of spots that lie near the reference, of the slice with the fewest; 0 for a slice of another tissue",
    0.8,
    0.5,
    {
        "pass": "The slices lie where the reference has spots.",
        "warn": "Many spots lie farther from the reference than its slices from each other: their domain is "
        "unassigned. Look where they lie: a domain that the reference has not seen, or poor spots?",
        "fail": "Most spots lie outside of what the reference has seen: don't trust domains and imputed counts of "
        "this slice. Is it another tissue, or another technology? If not, train anew with it.",
        "not checked": "No slice was mapped.",
    },
)

_NOT_OF_MAPPING = {
    "features agree": "No modality has 20 selected features with names.",
    "modalities align": "No new slice has two modalities.",
    "imputation": "Nothing of a new slice is hidden: the checks of the reference, on the first page, say how far to "
    "trust imputed counts.",
    "domains told apart": "Nothing of a new slice is hidden: the checks of the reference, on the first page, say which "
    "domains its modalities cannot tell apart.",
}


def run_checks(
    metrics: pd.DataFrame,
    domains: pd.DataFrame,
    features: Sequence[pd.DataFrame],
    foscttm: Sequence[pd.DataFrame],
    folds: Sequence[pd.DataFrame] = (),
    calls: pd.DataFrame | None = None,
    agreements: pd.DataFrame | None = None,
    mapping: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Run every check.

    Parameters
    ----------
    metrics
        As ``metrics.evaluate`` returns them.
    domains
        ``slice`` and ``domain`` of each spot; with ``calls``, also ``modalities``.
    features, foscttm, folds
        As ``scores.summarise`` returns them, for each modality; empty if nothing was hidden.
    calls
        As ``confidence.called_by`` returns them.
    agreements
        As ``agreement.agreements`` returns it.
    mapping
        How each slice lies to the reference that it was mapped onto (``mapped_domains.MappedDomains``): slices must mix
        with the reference, and the pairs of a slice are those that training has not seen. None for a run of its own.

    Returns
    -------
    DataFrame with ``check``, ``status`` (``pass``, ``warn``, ``fail`` or ``not checked``), ``value``, ``good``,
    ``bad``, ``meaning`` and ``advice``.
    """
    ilisi = metrics.loc[(metrics["metric"] == "iLISI") & (metrics["scope"] == "all"), "value"]
    # A fold has none of a modality that its hidden spots lack.
    unseen = [value for table in foscttm for value in table["foscttm"].dropna()]
    apart = pairs_apart(foscttm)
    better = [table["better_than_mean"].mean() for table in features if len(table)]
    left_out = [row for table in folds for row in table[table["way"] == "left out"].itertuples()]
    calls = pd.DataFrame(columns=CALLS) if calls is None else calls
    taken = taken_for_others(calls, domains) if len(calls) else calls
    agreements = pd.DataFrame(columns=agreement.COLUMNS) if agreements is None else agreements
    mixed = float(ilisi.iloc[0]) if len(ilisi) else np.nan
    if mapping is not None:
        mixed, unseen = float(mapping["ilisi"].min()), mapping["foscttm"].dropna().tolist()
        # Those with the reference, beside those among the new slices.
        onto = mapping[["slice", "agreement"]].assign(modality="features")
        agreements = pd.concat([agreements, onto]) if len(agreements) else onto
    values = [
        float(agreements["agreement"].min()),
        mixed,
        max(apart.values()) if apart else float(np.mean(unseen)) if unseen else np.nan,
        # The worst modality decides.
        float(min(better)) if better else np.nan,
        float(taken["share"].max()),
    ]
    asked = list(CHECKS)
    if mapping is not None:
        other = (mapping["relative"] < _LEAST_RELATIVE) & (mapping["ilisi_before"] < _LEAST_BEFORE)
        asked, values = [MAPPING, *asked], [float(mapping["near"].where(~other, 0.0).min()), *values]
    rows = []
    for check, value in zip(asked, values, strict=True):
        status = check.status(value)
        signs = ("≥", "<") if check.good > check.bad else ("≤", ">")
        advice = check.advice[status]
        if mapping is not None and status == "not checked":
            advice = _NOT_OF_MAPPING.get(check.name, advice)
        if check.name == "features agree" and status in ("warn", "fail"):
            few = agreements[agreements["agreement"] < check.good]
            advice += f" Which: {', '.join(f'{row.modality} of {row.slice}' for row in few.itertuples())}."
        if check.name == "features agree" and status != "not checked":
            judged = agreements.groupby("modality")["agreement"].transform("count") > 0
            if len(others := agreements[judged & agreements["agreement"].isna()]):
                advice += f" Not judged: {', '.join(f'{row.modality} of {row.slice}' for row in others.itertuples())}."
        if check.name == "modalities align" and apart:
            advice += f" Which: {', '.join(apart)}."
        if check.name == "slices mix" and (alone := domains_alone(domains)):
            named = ", ".join(f"{domain} in {name}" for domain, name in alone.items())
            advice += f" Domains that live in one slice only: {named}."
        if check.name == "mapping" and mapping is not None:
            advice += f" {' '.join(_of_mapping(row) for row in mapping.itertuples())}"
        if check.name == "imputation" and left_out:
            named = "; ".join(f"{row.fold} ({row.left_out})" for row in left_out)
            advice += f" Folds (slice.modality.part) left out: {named}."
        if check.name == "domains told apart":
            advice += "".join(f" {sentence}" for sentence in not_told_apart(taken))
        bounds = f"{signs[0]} {check.good:g}", f"{signs[1]} {check.bad:g}"
        rows.append((check.name, status, value, *bounds, check.meaning, advice))
    return pd.DataFrame(rows, columns=["check", "status", "value", "good", "bad", "meaning", "advice"])


def pairs_apart(foscttm: Sequence[pd.DataFrame]) -> dict[str, float]:
    """FOSCTTM of the slices and pairs of modalities that lie apart, mean over the folds that hide either of the two.

    Parameters
    ----------
    foscttm
        See ``run_checks``.
    """
    means: dict[str, list[float]] = {}
    for row in (row for table in foscttm for row in table.dropna(subset="foscttm").itertuples()):
        name, pair = row.scope.split(":")
        means.setdefault(f"{' and '.join(sorted(pair.split('~')))} of {name}", []).append(row.foscttm)
    return {pair: float(np.mean(values)) for pair, values in means.items() if np.mean(values) > _APART}


def _of_mapping(row: Any) -> str:
    """How one slice lies to the reference, in a sentence."""
    other = ""
    if row.relative < _LEAST_RELATIVE and row.ilisi_before < _LEAST_BEFORE:
        other = (
            f" Its features agree {row.relative:.2f} times as well with the reference as the slices there with one "
            "another: another tissue, or names that mean other features."
        )
    by_id = f" ({row.by_id:.0%} by identifiers or symbols)" if row.by_id else ""
    return (
        f"{row.slice}: {row.found:.0%} of the features of the reference{by_id}, {row.near:.0%} of the spots near it, "
        f"iLISI with it {row.ilisi:.2f}, {row.unassigned:.0%} unassigned.{other}"
    )


def composition(domains: pd.DataFrame) -> pd.DataFrame:
    """Proportion of each slice's spots in each domain (domains x slices).

    Parameters
    ----------
    domains
        ``slice`` and ``domain`` of each spot.
    """
    return pd.crosstab(domains["domain"], domains["slice"], normalize="columns")


def domains_alone(domains: pd.DataFrame) -> dict[str, str]:
    """Domains that occur in one slice only, and their slice; empty if the run has one slice.

    Parameters
    ----------
    domains
        ``slice`` and ``domain`` of each spot.
    """
    shares = composition(domains)
    if shares.shape[1] < 2:
        return {}
    lives = shares > _LEAST_SHARE
    alone = shares[lives.sum(axis=1) == 1]
    return {str(domain): str(row.idxmax()) for domain, row in alone.iterrows()}


def not_told_apart(taken: pd.DataFrame) -> list[str]:
    """Name the pairs of domains that the modalities of a slice cannot separate, one sentence each, worst first.

    Parameters
    ----------
    taken
        As ``confidence.taken_for_others`` returns them.
    """
    pairs: dict[tuple[str, ...], list] = {}
    for row in taken[taken["n_spots"] > 0].itertuples():
        pairs.setdefault((row.slices, row.modalities, *sorted([row.called, row.domain])), []).append(row)
    pairs = {pair: rows for pair, rows in pairs.items() if rows[0].share > LEAST_SHARE}
    sentences = [
        f"In {slices} ({' and '.join(own.split('+'))} alone) domains {low} and {high} can't be told apart: "
        + ", ".join(f"{row.share:.0%} of hidden spots called {row.called} are {row.domain}" for row in rows)
        + " by all modalities."
        for (slices, own, low, high), rows in list(pairs.items())[:_MOST_PAIRS]
    ]
    more = len(pairs) - len(sentences)
    return [*sentences, f"And {more} more: calls.tsv has all of them."] if more else sentences


def enforce_checks(checks: pd.DataFrame, fail_on: Sequence[str]) -> None:
    """Fail the run if a check listed in ``fail_on`` failed.

    Raises
    ------
    InputError
        Names every such check.
    """
    failed = checks[checks["check"].isin(fail_on) & (checks["status"] == "fail")]
    faults = [
        InputError(f"failed: {row.value:.3g}, {row.meaning} ({row.bad} fails)", where=row.check, hint=row.advice)
        for row in failed.itertuples()
    ]
    if faults:
        raise InputError.of_all(faults, "checks.fail_on")
