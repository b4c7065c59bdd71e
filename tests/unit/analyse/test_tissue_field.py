"""The tissue field, and the latent space aligned by its domains."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import normalize

from mosaic.analyse import random_field, tissue_field
from mosaic.analyse.alignment import align_domains
from mosaic.analyse.domains import cluster_domains
from mosaic.analyse.mixture import MixtureSettings, mixture_domains
from mosaic.analyse.n_domains import choose_by_bend
from mosaic.analyse.random_field import FieldSettings, View
from mosaic.errors import InputError


class Tissue:
    """Two slices with three bands, which shift by modality and slice; s1 has both modalities, s2 the first."""

    def __init__(self, noise: float = 1.0, *, latent_noise: float = 0.7, island: bool = False):
        rng = np.random.default_rng(0)
        grid = np.stack(np.meshgrid(np.arange(24), np.arange(24), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)
        self.coordinates, self.slices = np.vstack([grid, grid]), np.repeat([0, 1], len(grid))
        self.truth = np.tile(grid[:, 0] // 8, 2).astype(int)
        if island:
            self.truth[(abs(self.coordinates - [4, 12]) <= 1).all(axis=1)] = 2
        means = rng.normal(size=(2, 3, 6)) * 1.5
        offsets = rng.normal(size=(2, 6)) * 4
        self.views = [
            View(
                rows,
                (
                    means[m, self.truth[rows]] + offsets[self.slices[rows]] + noise * rng.normal(size=(len(rows), 6))
                ).astype(np.float32),
            )
            for m, rows in enumerate((np.arange(len(self.truth)), np.flatnonzero(self.slices == 0)))
        ]
        self.latent = np.random.default_rng(7).normal(size=(3, 4))[self.truth] + latent_noise * rng.normal(
            size=(len(self.truth), 4)
        )
        self.graph = random_field.averages(self.coordinates, self.slices)

    def domains(self, n_domains: int = 3, settings: FieldSettings = random_field.DEFAULTS, seed: int = 0) -> np.ndarray:
        return tissue_field.field_domains(
            self.latent, self.views, self.coordinates, self.slices, n_domains, seed, settings
        ).posterior.argmax(axis=1)

    def ari(self, labels: np.ndarray) -> float:
        return adjusted_rand_score(self.truth, labels)


@pytest.fixture(scope="module")
def tissue() -> Tissue:
    return Tissue()


def test_the_field_finds_what_the_latent_space_blurs(tissue):
    blurred = mixture_domains(tissue.latent, 3, 0).argmax(axis=1)
    assert tissue.ari(blurred) < 0.9
    assert tissue.ari(tissue.domains()) > 0.99
    views = {"views": tissue.views, "coordinates": tissue.coordinates, "slices": tissue.slices}
    found = cluster_domains(tissue.latent, "tissue", n_domains=3, **views)
    # What the latent space alone calls a spot, in the numbers of the field's domains.
    alone = mixture_domains(tissue.latent, 3, 0, MixtureSettings(merges=0)).argmax(axis=1)
    assert adjusted_rand_score(alone, found.by_latent) == 1
    assert (found.by_latent == found.labels).mean() > 0.7


def test_the_emission_is_the_gaussian_of_the_parameters_that_it_fits(tissue):
    """Against scipy's density, with means, offsets and covariance found by another way: alternating least squares."""
    view, settings = tissue.views[0], FieldSettings(offset_rounds=500)
    posterior = np.random.default_rng(1).dirichlet(np.ones(3), len(tissue.truth)).astype(np.float32)
    log, constant = random_field._Emission(view, tissue.slices, settings, offsets=True).fit(posterior)
    x, r = view.features.astype(float), posterior.astype(float)
    # Weighted regression of each spot, three times, on its domain and on its slice's contrast.
    design = np.vstack(
        [
            np.column_stack([np.tile(np.eye(3)[k], (len(x), 1)), np.where(tissue.slices == 0, 1.0, -1.0)])
            for k in range(3)
        ]
    )
    weight = np.sqrt(r.T.ravel())[:, None]
    fitted = np.linalg.lstsq(design * weight, np.tile(x, (3, 1)) * weight, rcond=None)[0]
    residual = (np.tile(x, (3, 1)) - design @ fitted) * weight
    scatter = residual.T @ residual / len(x)
    covariance = 0.7 * scatter + 0.3 * np.diag(scatter.diagonal())
    contrast = np.where(tissue.slices == 0, 1.0, -1.0)[:, None] * fitted[3]
    expected = np.column_stack(
        [stats.multivariate_normal(fitted[k], covariance).logpdf(x - contrast) for k in range(3)]
    )
    np.testing.assert_allclose(log - log[:, :1], expected - expected[:, :1], atol=1e-3)
    # The rest is the same for all domains: as a sum it gives the log-likelihood.
    total = (r * log).sum() + constant - len(x) * 3 * np.log(2 * np.pi)
    np.testing.assert_allclose(total, (r * expected).sum(), rtol=1e-5)


def test_the_objective_rises_from_a_wrong_start_to_the_right_one(tissue):
    wrong = np.eye(3)[(tissue.truth + (tissue.slices == 1)) % 3]
    right = np.eye(3)[tissue.truth]
    from_wrong, from_right = (
        random_field.fit_field(tissue.views, tissue.graph, tissue.slices, r) for r in (wrong, right)
    )
    assert tissue.ari(from_wrong.posterior.argmax(axis=1)) < 0.7
    assert from_right.objective > from_wrong.objective + 0.1
    # Once converged, another fit from there stays.
    again = random_field.fit_field(tissue.views, tissue.graph, tissue.slices, from_right.posterior)
    np.testing.assert_allclose(again.objective, from_right.objective, atol=1e-2)


def test_without_offsets_domains_follow_the_slice(tissue):
    rng = np.random.default_rng(1)
    labels = np.where(rng.uniform(size=len(tissue.truth)) < 0.9, rng.integers(3, size=len(tissue.truth)), tissue.truth)
    bound, free = (
        random_field.fit_field(tissue.views, tissue.graph, tissue.slices, np.eye(3)[labels], offsets=offsets)
        for offsets in (False, True)
    )
    assert tissue.ari(free.posterior.argmax(axis=1)) > 0.99
    assert tissue.ari(bound.posterior.argmax(axis=1)) < 0.8


def test_a_spot_that_is_not_free_keeps_its_domain(tissue):
    start = np.eye(3)[tissue.truth]
    start[tissue.slices == 1] = 1 / 3
    free = tissue.slices == 1
    found = random_field.fit_field(tissue.views, tissue.graph, tissue.slices, start, free=free).posterior
    np.testing.assert_array_equal(found[~free], start[~free])
    assert adjusted_rand_score(tissue.truth[free], found[free].argmax(axis=1)) > 0.9


def test_strays_vanish_and_an_island_stays():
    clear = Tissue(0.5, island=True)
    found = clear.domains()
    assert clear.ari(found) > 0.98
    island = (abs(clear.coordinates - [4, 12]) <= 1).all(axis=1)
    assert (found[island] == np.bincount(found[clear.truth == 2]).argmax()).mean() > 0.8
    # Without a word from the features, a single spot takes the domain of its neighbours.
    silent = [View(np.arange(0), np.zeros((0, 2), dtype=np.float32))]
    posterior = np.eye(3)[clear.truth]
    stray = np.flatnonzero((clear.coordinates == [20, 12]).all(axis=1))
    posterior[stray] = [1, 0, 0]
    around = clear.graph @ posterior
    strength = random_field._strength(posterior, around, np.log(posterior.mean(axis=0)), 20)
    assert strength > 2
    smoothed = special.softmax(np.log(posterior.mean(axis=0)) + strength * around, axis=1)
    assert (smoothed[stray].argmax(axis=1) == 2).all()
    assert not silent[0].part(np.arange(3)).rows.size


def test_regions_of_large_slices_give_the_same_domains(monkeypatch, caplog):
    tissue = Tissue(latent_noise=0.3)
    few = FieldSettings(most_start_spots=800, regions=5)
    spots = tissue_field._regions(tissue.coordinates, tissue.slices, few, 0)
    assert 400 < len(spots) <= 800
    np.testing.assert_array_equal(spots, np.unique(spots))
    assert set(tissue.slices[spots]) == {0, 1}
    assert adjusted_rand_score(tissue.domains(settings=few), tissue.domains()) > 0.97
    assert "don't trust them" not in caplog.text
    fit = tissue_field.fit_field

    def losing_what_regions_found(views, graph, slices, start, **options):
        field = fit(views, graph, slices, start, **options)
        return field._replace(posterior=np.roll(field.posterior, 1, axis=1)) if len(start) > len(spots) else field

    monkeypatch.setattr(tissue_field, "fit_field", losing_what_regions_found)
    tissue.domains(settings=few)
    assert "of the domains that regions found: don't trust them" in caplog.text


def test_domains_carried_from_regions_see_the_tissue_before_all_spots_are_fitted(monkeypatch):
    noisy = Tissue(latent_noise=0.6)
    fit, starts = tissue_field.fit_field, []

    def spy(views, graph, slices, start, **options):
        if len(start) == len(noisy.truth):
            starts.append(start.argmax(axis=1))
        return fit(views, graph, slices, start, **options)

    monkeypatch.setattr(tissue_field, "fit_field", spy)
    noisy.domains(settings=FieldSettings(most_start_spots=800, regions=5))
    carried, smoothed = starts
    assert noisy.ari(smoothed) > noisy.ari(carried) + 0.2


def test_a_domain_of_two_cell_types_is_one(tissue):
    """Half of the cells of the middle band are nearly those of the first, which the latent space alone puts there."""
    rng = np.random.default_rng(0)
    cell_types = np.where((tissue.truth == 1) & (rng.random(len(tissue.truth)) < 0.5), 3, tissue.truth)
    means = np.eye(4) * 3
    means[3] = means[0] + [0, 2, 0, 0]
    latent = means[cell_types] + 1.3 * rng.normal(size=(len(cell_types), 4))
    features = np.hstack([latent, tissue.graph @ latent]).astype(np.float32)
    view = View(np.arange(len(features)), features - features.mean(axis=0))
    found = tissue_field.field_domains(latent, [view], tissue.coordinates, tissue.slices, 3, 0)
    assert tissue.ari(found.by_latent) < 0.6
    assert tissue.ari(found.posterior.argmax(axis=1)) > 0.9


def test_the_number_of_domains_is_that_at_the_bend(tissue):
    """Found by what modalities measure, where the latent space alone doesn't show it."""
    given = {"views": tissue.views, "coordinates": tissue.coordinates, "slices": tissue.slices}
    choice = choose_by_bend(tissue.latent, **given, n_domains_range=(2, 6))
    assert choice.n_domains == 3
    curve = choice.curve.set_index("n_domains")
    assert curve.index[curve["chosen"]].tolist() == [3] == [curve["bend"].idxmax()]
    gains = curve["objective"].diff()
    np.testing.assert_allclose(curve.loc[3:5, "bend"], (gains - gains.shift(-1)).loc[3:5])
    assert tissue.ari(choice.labels[3]) > 0.99
    assert len(choice.spots) == len(tissue.truth)


def test_one_seed_gives_the_same_bits(tissue):
    few = FieldSettings(most_start_spots=800, regions=5)
    first, again, other = (
        tissue_field.field_domains(tissue.latent, tissue.views, tissue.coordinates, tissue.slices, 3, seed, few)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.posterior, again.posterior)
    np.testing.assert_array_equal(first.by_latent, again.by_latent)
    assert (first.posterior != other.posterior).any()


def test_names_of_slices_and_their_order_do_not_matter(tissue):
    names = np.array(["b", "a"])[tissue.slices]
    named = tissue_field.field_domains(tissue.latent, tissue.views, tissue.coordinates, names, 3, 0).posterior
    named = named.argmax(axis=1)
    assert adjusted_rand_score(named, tissue.domains()) > 0.99


def test_a_field_never_loses_a_domain(tissue, caplog):
    """The features tell two groups only; EM would leave the third domain without spots."""
    two = [View(np.arange(len(tissue.truth)), np.minimum(tissue.truth, 1)[:, None].astype(np.float32) * [[5, 5]])]
    start = np.eye(3)[tissue.truth]
    start[tissue.truth == 2] = [0, 0.45, 0.55]
    caplog.set_level("INFO")
    found = random_field.fit_field(
        [View(two[0].rows, two[0].features.astype(np.float32))], tissue.graph, tissue.slices, start
    )
    assert len(np.unique(found.posterior.argmax(axis=1))) == 3


def test_a_field_that_all_but_lost_its_domains_is_not_chosen(monkeypatch):
    """In much noise, nearly all spots in one domain have the higher objective: it lacks the constant of the prior."""
    noisy = Tissue(noise=4)
    corner = np.where(noisy.coordinates[:, 1] < 12, 1, 2)
    starts = {
        "one domain": np.where(noisy.coordinates[:, 0] < 4.8, corner, 0),
        "the truth": noisy.truth,
    }
    lost, right = (
        random_field.fit_field(noisy.views, noisy.graph, noisy.slices, np.eye(3)[labels]) for labels in starts.values()
    )
    assert noisy.ari(lost.posterior.argmax(axis=1)) < 0.1 < 0.9 < noisy.ari(right.posterior.argmax(axis=1))
    assert lost.objective > right.objective
    assert lost.likelihood < right.likelihood
    monkeypatch.setattr(
        tissue_field, "_starts", lambda *_: [(name, labels, np.eye(3)[labels]) for name, labels in starts.items()]
    )
    assert noisy.ari(noisy.domains()) > 0.9


def test_the_likelihood_is_that_of_a_mixture(tissue):
    """With one domain the features are Gaussian about the offsets of the slices."""
    [view] = tissue.views[:1]
    found = random_field.fit_field([view], tissue.graph, tissue.slices, np.ones((len(tissue.truth), 1)))
    residuals = view.features.astype(np.float64)
    for number in (0, 1):
        residuals[tissue.slices == number] -= residuals[tissue.slices == number].mean(axis=0)
    covariance = residuals.T @ residuals / len(residuals)
    covariance *= 1 - random_field.DEFAULTS.shrinkage * (1 - np.eye(len(covariance)))
    # The field leaves out the constant of the Gaussian.
    expected = (
        stats.multivariate_normal(cov=covariance).logpdf(residuals).mean() + len(covariance) * np.log(2 * np.pi) / 2
    )
    np.testing.assert_allclose(found.likelihood, expected, rtol=1e-4)


def test_more_domains_than_a_mixture_finds_are_a_fault(tissue):
    with pytest.raises(
        InputError, match=r"no field of 1150 domains can be fitted: the latent space: 1152 spots are too few"
    ):
        tissue.domains(1150)


def test_alignment_takes_away_what_a_slice_adds_to_a_domain(tissue):
    rng = np.random.default_rng(2)
    centre = normalize(rng.normal(size=(3, 8)))
    shift = 0.3 * normalize(rng.normal(size=(2, 3, 8)).reshape(6, 8)).reshape(2, 3, 8)
    z = centre[tissue.truth] + shift[tissue.slices, tissue.truth] + 0.01 * rng.normal(size=(len(tissue.truth), 8))
    [aligned] = align_domains([(np.arange(len(z)), z)], tissue.slices, np.eye(3)[tissue.truth])
    apart = [
        np.linalg.norm(
            values[tissue.slices == 0].reshape(3, -1, 8).mean(axis=1)
            - values[tissue.slices == 1].reshape(3, -1, 8).mean(axis=1),
            axis=1,
        )
        for values in (normalize(z), aligned)
    ]
    assert (apart[0] > 0.2).all()
    assert (apart[1] < 0.05).all()


def test_a_domain_that_a_slice_lacks_moves_nothing(tissue):
    kept = (tissue.slices == 0) | (tissue.truth != 2)
    slices, truth = tissue.slices[kept], tissue.truth[kept]
    z = normalize(np.random.default_rng(3).normal(size=(3, 8)))[truth] + 0.5 * np.eye(8)[slices]
    [aligned] = align_domains([(np.arange(len(z)), z)], slices, np.eye(3)[truth])
    alone = truth == 2
    np.testing.assert_allclose(aligned[alone], normalize(z[alone]), atol=1e-6)
    assert (abs(aligned[~alone] - normalize(z[~alone])).max(axis=1) > 0.01).all()
