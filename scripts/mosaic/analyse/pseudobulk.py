"""Features that differ between conditions within a domain: counts summed per slice, tested over replicates."""

import logging
import warnings
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from pydeseq2.dds import DeseqDataSet
from pydeseq2.default_inference import DefaultInference
from pydeseq2.ds import DeseqStats
from scipy import stats

from mosaic.analyse.conditions import LEAST_REPLICATES, Contrast

logger = logging.getLogger(__name__)

_SIGNIFICANT = 0.05
_FEWEST_SPOTS = 10  # of a domain in a slice
_FEWEST_COUNTS = 10  # of a feature in the samples that are compared
_MOST_FEATURES = 20_000  # per test: those with most counts
FEATURE_COLUMNS = ["level", "reference", "domain", "feature", "mean_count", "log2_fold_change", "stat", "p_value"]
FEATURE_COLUMNS += ["p_adj"]
TEST_COLUMNS = ["level", "reference", "domain", "n_level", "n_reference", "n_features", "n_different", "note"]


class Pseudobulk(NamedTuple):
    """Counts of each domain in each slice.

    Attributes
    ----------
    counts
        Samples x features, whole numbers.
    samples
        ``slice``, ``domain`` and ``n_spots`` of each sample.
    """

    counts: pd.DataFrame
    samples: pd.DataFrame


class Differences(NamedTuple):
    """Differential features.

    Attributes
    ----------
    features
        Per ``level``, ``reference``, ``domain`` and ``feature``: ``mean_count`` (normalised), ``log2_fold_change``,
        ``stat`` (Wald), ``p_value`` and ``p_adj`` (Benjamini and Hochberg, over the features of all domains), most
        significant of each domain first.
    tests
        Per ``level``, ``reference`` and ``domain``: the replicates, ``n_features`` tested, ``n_different`` at 5 %, and
        a ``note`` where nothing was tested.
    """

    features: pd.DataFrame
    tests: pd.DataFrame


def pseudobulk(slices: Iterable[ad.AnnData], domains: pd.Series) -> Pseudobulk:
    """Sum the counts of each slice over the spots of each domain.

    Parameters
    ----------
    slices
        Slices of a modality, with ``layers["counts"]``.
    domains
        Domain of each spot, by name; may include spots of other slices. The order of categories is kept.

    Returns
    -------
    Of domains with ten spots or more in a slice, and features of all slices.
    """
    sums, samples = [], []
    for adata in slices:
        own = domains[adata.obs_names].to_numpy()
        for domain, n_spots in pd.Series(own).value_counts().items():
            if n_spots >= _FEWEST_SPOTS:
                total = np.asarray(adata.layers["counts"][own == domain].sum(axis=0)).ravel()
                sums.append(pd.Series(total, adata.var_names))
                samples.append((str(adata.obs["slice"].iloc[0]), domain, n_spots))
    table = pd.DataFrame(samples, columns=["slice", "domain", "n_spots"])
    if isinstance(domains.dtype, pd.CategoricalDtype):
        table["domain"] = pd.Categorical(table["domain"], domains.cat.categories)
    if not sums:
        return Pseudobulk(pd.DataFrame(index=table.index), table)
    return Pseudobulk(pd.concat(sums, axis=1, join="inner").T.round().astype(np.int64).reset_index(drop=True), table)


def differences(
    bulk: Pseudobulk, contrast: Contrast, covariates: Mapping[str, Mapping[str, str]] | None = None
) -> Differences:
    """Test each feature in each domain, by DESeq2's negative binomial model of the sums.

    Counts of the slices of a replicate are summed. The design is ``~ level``, with the replicates in a paired design,
    and the covariates. (Love, Huber and Anders, Genome Biology 2014; PyDESeq2: Muzellec et al., Bioinformatics 2023.)

    Parameters
    ----------
    bulk
        As ``pseudobulk`` returns it.
    contrast
        The levels and their replicates, as ``conditions.contrasts`` gives them.
    covariates
        Per name the value of each slice, the same in all slices of a replicate and level.
    """
    tables, tests = [], []
    for domain in dict.fromkeys(bulk.samples["domain"].sort_values(kind="stable")):
        counts, samples = _samples(bulk, domain, contrast, covariates or {})
        n = tuple(int((samples["level"] == name).sum()) for name in ("level", "reference"))
        note, found = _obstacle(samples, n), None
        if note is None:
            found = _deseq(counts, samples)
            if not len(found):
                note, found = "not tested: no feature has enough counts", None
        tests.append(
            (contrast.level, contrast.reference, domain, *n, 0 if found is None else len(found), 0, note or "")
        )
        if found is not None:
            tables.append(found.assign(level=contrast.level, reference=contrast.reference, domain=domain))
    summary = pd.DataFrame(tests, columns=TEST_COLUMNS)
    if not tables:
        return Differences(pd.DataFrame(columns=FEATURE_COLUMNS), summary)
    features = pd.concat(tables, ignore_index=True)[FEATURE_COLUMNS]
    # Over all domains; DESeq2 leaves out features with too few counts to be found.
    told = features["p_adj"].notna()
    if told.any():
        features.loc[told, "p_adj"] = stats.false_discovery_control(features.loc[told, "p_value"])
    different = features["domain"][features["p_adj"] < _SIGNIFICANT].value_counts()
    summary["n_different"] = summary["domain"].map(different).fillna(0).astype(int)
    return Differences(features, summary)


def _samples(
    bulk: Pseudobulk, domain: object, contrast: Contrast, covariates: Mapping[str, Mapping[str, str]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sums of a domain per replicate and level, and the factors of the design."""
    own = bulk.samples[(bulk.samples["domain"] == domain) & bulk.samples["slice"].isin(contrast.slices.index)]
    slices = contrast.slices.loc[own["slice"]]
    keys = pd.DataFrame({"replicate": slices["replicate"].to_numpy(), "level": slices["level"].to_numpy()}, own.index)
    keys["level"] = np.where(keys["level"] == contrast.level, "level", "reference")
    # Names of factors and levels are the users'; a formula takes plain ones.
    for number, told in enumerate(covariates.values()):
        keys[f"covariate{number}"] = own["slice"].map(told).fillna("").to_numpy()
    if contrast.paired:
        whole = keys.groupby("replicate")["level"].transform("nunique") == 2
        keys = keys[whole]
    factors = keys.groupby(["replicate", "level"], sort=True).first().reset_index()
    counts = bulk.counts.loc[keys.index].groupby([keys["replicate"], keys["level"]], sort=True).sum()
    for name in factors.columns.difference(["level"]):
        factors[name] = [f"v{code}" for code in pd.factorize(factors[name])[0]]
    if not contrast.paired:
        factors = factors.drop(columns="replicate")
    factors.index = counts.index = [f"sample{number}" for number in range(len(factors))]
    # A factor of one value says nothing.
    return counts, factors[["level", *(name for name in factors if name != "level" and factors[name].nunique() > 1)]]


def _obstacle(samples: pd.DataFrame, n: tuple[int, ...]) -> str | None:
    """Why a domain can't be tested."""
    if min(n) < LEAST_REPLICATES:
        return (
            f"not tested: {n[0]} and {n[1]} replicates with {_FEWEST_SPOTS} spots, {LEAST_REPLICATES} each are needed"
        )
    design = pd.get_dummies(samples, drop_first=True, dtype=float).assign(one=1.0)
    rank = np.linalg.matrix_rank(design.to_numpy())
    if rank < design.shape[1]:
        return "not tested: the covariates can't be told from the condition, or from each other"
    if rank >= len(samples):
        return "not tested: as many factors as samples"
    return None


def _deseq(counts: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    totals = counts.sum()
    kept = totals[totals >= _FEWEST_COUNTS].sort_values(ascending=False, kind="stable").index[:_MOST_FEATURES]
    counts = counts[kept]
    if counts.shape[1] < 2 or (counts.sum(axis=1) == 0).any():
        return pd.DataFrame(columns=FEATURE_COLUMNS)
    inference = DefaultInference(n_cpus=1)
    with warnings.catch_warnings():
        # Of trends that do not fit few features, for which it takes the mean, and of its own dependencies.
        warnings.simplefilter("ignore")
        data = DeseqDataSet(
            counts=counts,
            metadata=samples.astype("category"),
            design="~ " + " + ".join(reversed(samples.columns)),
            size_factors_fit_type="poscounts",
            inference=inference,
            quiet=True,
        )
        data.deseq2()
        tested = DeseqStats(data, contrast=["level", "level", "reference"], inference=inference, quiet=True)
        tested.summary()
    table = tested.results_df.rename_axis("feature").reset_index()
    table = table.rename(
        columns={
            "baseMean": "mean_count",
            "log2FoldChange": "log2_fold_change",
            "pvalue": "p_value",
            "padj": "p_adj",
        }
    )
    return table.sort_values("p_value", kind="stable")
