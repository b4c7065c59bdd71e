"""Simulate a mosaic of slices with known domains, such as the demo.

A *design* (``resources/demo.yaml`` explains every key) defines the modalities of each slice, the tissue, and the depth
of each modality. Optional keys switch effects on: without ``mixing`` every spot is pure, without ``dispersion`` counts
are Poisson, without ``bad_spots`` all spots pass quality control.

The model of the counts, for spot i, feature g, slice s:

1. Domains are patches of tissue: connected Voronoi cells in coordinates that smooth random fields warp, drawn for each
   slice. ``structures`` lays finer ones over them: cords of one domain that interlace with another, islands of a few
   spots, and strays, single spots.
2. A spot contains cells of several domains, mostly of its own: Dirichlet weights w_i, the same in all modalities.
3. The profile of a domain is a log-normal abundance per feature, times a fold change if the feature is a marker of the
   domain, times a log-normal factor per slice and feature; it sums to 1.
4. The expected count is mu_ig = depth_i * (w_i P_s)_g with a log-normal depth_i. Counts are negative binomial with
   variance mu + dispersion * mu^2 (a gamma-Poisson mixture, as in Splatter: Zappia, Phipson and Oshlack, Genome Biology
   2017), and Splatter's logistic dropout loses counts with probability 1 / (1 + (mu / midpoint)^slope).
"""

from collections.abc import Mapping
from itertools import count, filterfalse, islice

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from mosaic.errors import InputError
from mosaic.simulate.design import check_design, named_features
from mosaic.simulate.tissue import Tissue, hexagonal_grid, make_tissue, stream

VALUES_PER_CHUNK = 2**22  # counts drawn at once: about 200 MB at the peak. Changing it changes the random numbers.
GENERATED_NAME = {"rna": "GENE", "protein": "PROTEIN"}  # epigenome features are named as peaks
PEAK_WIDTH, PEAK_GAP = (300, 1000), (1_000, 50_000)  # base pairs, from-to
CHROMOSOMES = [f"chr{name}" for name in [*range(1, 23), "X"]]


def simulate_mosaic(design: dict, seed: int) -> dict[tuple[str, str], AnnData]:
    """Simulate the counts of a mosaic of slices with known domains.

    Parameters
    ----------
    design
        The design, as in ``resources/demo.yaml``.
    seed
        The same seed gives the same bits. Each slice and modality has its own random numbers: additional ones, or
        another order, leave the others unchanged.

    Returns
    -------
    One AnnData (spots x features) for each (slice, modality), like a user's file: raw counts in ``X`` (CSR, float32,
    whole numbers); barcodes in ``obs_names``, which repeat between slices, because a position of the grid has the same
    barcode on each; ``obs["in_tissue"]`` 0 or 1; ``obs["domain"]``, the true domain, missing off tissue;
    ``obsm["spatial"]`` (x, y) in whole pixels. The modalities of a slice may differ in spots and in the order of rows.

    Raises
    ------
    InputError
        If the design has faults, its domains do not fit on the grid, or a slice has fewer spots than it should lose.
    """
    check_design(design)
    _check_seed(seed)
    spots = hexagonal_grid(design["grid"])
    pixels = np.rint(spots * design["grid"]["pitch"])
    barcodes = _barcodes(len(spots), stream(seed, "barcodes"))
    profiles = expected_profiles(design, seed)

    mosaic = {}
    for slice_name, measured in design["slices"].items():
        tissue = make_tissue(design, spots, slice_name, seed)
        domain = pd.Categorical.from_codes(tissue.domain, categories=list(design["domains"]))
        for modality in measured:
            rng = stream(seed, "counts", slice_name, modality)
            rows = _rows(design["modalities"][modality], tissue, barcodes, rng, where=f"slice {slice_name}, {modality}")
            profile = profiles[slice_name, modality]
            mosaic[slice_name, modality] = AnnData(
                X=_counts(design, modality, tissue, rows, profile, rng),
                obs=pd.DataFrame(
                    {"in_tissue": tissue.in_tissue[rows].astype(np.int64), "domain": domain[rows]}, index=barcodes[rows]
                ),
                var=pd.DataFrame(index=profile.columns),
                obsm={"spatial": pixels[rows]},
            )
    return mosaic


def expected_profiles(design: dict, seed: int) -> dict[tuple[str, str], pd.DataFrame]:
    """Expected profile of a pure spot of each domain.

    Parameters
    ----------
    design
        The design, as in ``resources/demo.yaml``.
    seed
        The seed of :func:`simulate_mosaic`.

    Returns
    -------
    For each (slice, modality) a table (domains x features) of the features' proportions of the counts; rows sum to 1.

    Raises
    ------
    InputError
        If the design has faults.
    """
    check_design(design)
    _check_seed(seed)
    domains = list(design["domains"])
    biology = {
        name: _biology(spec, domains, stream(seed, "modality", name)) for name, spec in design["modalities"].items()
    }
    return {
        (slice_name, modality): _with_slice_effect(
            biology[modality], design["modalities"][modality], stream(seed, "slice effect", slice_name, modality)
        )
        for slice_name, measured in design["slices"].items()
        for modality in measured
    }


def _check_seed(seed: int) -> None:
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"the seed is {seed!r}", where="seed", hint="give a whole number, 0 or more")


# --- features and profiles --------------------------------------------------------------------------------------------


def _biology(spec: Mapping, domains: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Abundance of the features (domains x features) in arbitrary units, the same in all slices."""
    named = named_features(spec)
    n_generated = spec["n_features"] - len(named)
    if spec["kind"] == "epigenome":
        generated = _peak_names(n_generated, rng)
    else:
        prefix, digits = GENERATED_NAME[spec["kind"]], max(3, len(str(n_generated)))
        free = (f"{prefix}{number:0{digits}d}" for number in count(1))
        generated = list(islice(filterfalse(set(named).__contains__, free), n_generated))

    hidden = spec.get("looks_like", {})
    seen = [domain for domain in domains if domain not in hidden]
    markers = spec["markers"]
    if isinstance(markers, int):
        chosen = rng.choice(generated, size=(len(seen), markers), replace=False)
        markers = dict(zip(seen, chosen.tolist(), strict=True))

    features = pd.Index(named + generated)
    abundance = rng.lognormal(sigma=spec.get("abundance_log_sd", 0), size=len(features))
    profile = pd.DataFrame(np.tile(abundance, (len(domains), 1)), index=domains, columns=features)
    for domain in seen:
        own = markers.get(domain, [])
        fold = spec["marker_fold"] * rng.lognormal(sigma=spec.get("marker_fold_log_sd", 0), size=len(own))
        profile.loc[domain, own] *= fold
    for domain, twin in hidden.items():
        profile.loc[domain] = profile.loc[twin]
    return profile


def _peak_names(n_peaks: int, rng: np.random.Generator) -> list[str]:
    """Names (chrom-start-end) of peaks that do not overlap, in genomic order."""
    width = rng.integers(*PEAK_WIDTH, size=n_peaks)
    gap = rng.integers(*PEAK_GAP, size=n_peaks)
    names = []
    for chromosome, peaks in zip(CHROMOSOMES, np.array_split(np.arange(n_peaks), len(CHROMOSOMES)), strict=True):
        ends = np.cumsum(gap[peaks] + width[peaks])
        names += [f"{chromosome}-{end - w}-{end}" for end, w in zip(ends, width[peaks], strict=True)]
    return names


def _with_slice_effect(biology: pd.DataFrame, spec: Mapping, rng: np.random.Generator) -> pd.DataFrame:
    """Profiles of one slice: abundances times its factors. Rows sum to 1; the mitochondrial proportion is kept."""
    log_sd = spec.get("slice_effect", {}).get("feature_log_sd", 0)
    profile = biology * rng.lognormal(sigma=log_sd, size=biology.shape[1])
    mitochondrial = _is_mitochondrial(spec, profile.columns)
    share = spec["mitochondrial"]["share"] if "mitochondrial" in spec else 0.0
    for part, of_total in ((mitochondrial, share), (~mitochondrial, 1 - share)):
        profile.loc[:, part] = profile.loc[:, part].div(profile.loc[:, part].sum(axis=1), axis=0) * of_total
    return profile


def _is_mitochondrial(spec: Mapping, features: pd.Index) -> np.ndarray:
    return features.isin(spec.get("mitochondrial", {}).get("features", []))


# --- tissue -----------------------------------------------------------------------------------------------------------


def _barcodes(n: int, rng: np.random.Generator) -> np.ndarray:
    """Distinct barcodes of 16 bases, in the format of Visium."""
    codes = rng.choice(4**16, size=n, replace=False)
    bases = np.frombuffer(b"ACGT", dtype="S1")[(codes[:, None] >> np.arange(0, 32, 2)) & 3]
    return np.strings.add(bases.view("S16").ravel().astype("U16"), "-1")


# --- counts -----------------------------------------------------------------------------------------------------------


def _rows(spec: Mapping, tissue: Tissue, barcodes: np.ndarray, rng: np.random.Generator, where: str) -> np.ndarray:
    """Spots of the grid that a file contains, in the order of its rows."""
    # Low-quality spots are never lost, so that each file has as many as the design says.
    good = np.flatnonzero(tissue.in_tissue & ~tissue.low_counts & ~tissue.high_mito)
    n_lost = spec.get("lost_spots", 0)
    if n_lost >= len(good):
        problem = f"{n_lost} spots to lose, {len(good)} good ones in tissue"
        raise InputError(problem, where=where, hint="lower lost_spots or enlarge the grid")
    kept = np.setdiff1d(np.arange(len(barcodes)), rng.choice(good, size=n_lost, replace=False))
    return rng.permutation(kept) if spec.get("shuffled", False) else kept[np.argsort(barcodes[kept])]


def _counts(
    design: Mapping,
    modality: str,
    tissue: Tissue,
    rows: np.ndarray,
    profile: pd.DataFrame,
    rng: np.random.Generator,
) -> sparse.csr_matrix:
    """Draw the counts (rows x features) of one slice and modality, in chunks, so that only a chunk is dense."""
    spec = design["modalities"][modality]
    bad = design.get("bad_spots", {})
    of_slice = rng.lognormal(sigma=spec.get("slice_effect", {}).get("depth_log_sd", 0))
    depth = spec["depth"] * of_slice * rng.lognormal(sigma=spec.get("depth_log_sd", 0), size=len(rows))
    depth[~tissue.in_tissue[rows]] *= design.get("tissue", {}).get("ambient", 0)
    if "low_counts" in bad:
        depth[tissue.low_counts[rows]] *= bad["low_counts"]["depth"]
    mitochondrial = _is_mitochondrial(spec, profile.columns)

    chunks = []
    step = max(1, VALUES_PER_CHUNK // profile.shape[1])
    for start in range(0, len(rows), step):
        spots = rows[start : start + step]
        # Not @, whose last digit depends on the number of threads.
        share = np.einsum("sd,df->sf", tissue.mixture[spots], profile.to_numpy())
        dying = tissue.high_mito[spots]
        if mitochondrial.any() and dying.any():
            for part, of_total in (
                (mitochondrial, bad["high_mito"]["share"]),
                (~mitochondrial, 1 - bad["high_mito"]["share"]),
            ):
                block = share[np.ix_(dying, part)]
                share[np.ix_(dying, part)] = of_total * block / block.sum(axis=1, keepdims=True)
        chunks.append(_draw(depth[start : start + step, None] * share, spec, rng))
    return sparse.vstack(chunks, format="csr")


def _draw(mean: np.ndarray, spec: Mapping, rng: np.random.Generator) -> sparse.csr_matrix:
    """Draw counts with these means: negative binomial, then dropout."""
    if dispersion := spec.get("dispersion", 0):
        counts = rng.negative_binomial(1 / dispersion, 1 / (1 + dispersion * mean))
    else:
        counts = rng.poisson(mean)
    if dropout := spec.get("dropout"):
        counts[rng.random(mean.shape) < 1 / (1 + (mean / dropout["midpoint"]) ** dropout["slope"])] = 0
    return sparse.csr_matrix(counts.astype(np.float32))
