"""The ways to find domains: what each needs of the config and of the tissue, and what it gives.

The functions are in ``analyse/domains.py``; docs/adding_a_way_to_find_domains.md has the steps.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

# The settings that say how many domains there are, and how to begin with one that is missing.
NEEDS = {
    "n_domains": "the number of domains you expect, or auto",
    "resolution": "1.0 is a start; more gives more domains",
}


# Further settings, which only some ways take, and the value at which they do nothing.
OPTIONS = {"spatial_weight": 0}


class Clusterer(NamedTuple):
    """A way to find domains.

    Attributes
    ----------
    label
        Its name in messages.
    needs
        The setting that it goes by: ``n_domains``, or ``resolution`` where it finds the number of domains itself.
    tissue
        Whether it takes the spots' coordinates and slices, too, beside the embedding.
    views
        Whether it takes what each modality measures, from the graphs (``analyse.random_field.View``), before those.
    probability
        Whether it gives the probability of each domain for each spot, instead of the domain.
    options
        The settings of ``OPTIONS`` that it takes.
    """

    label: str
    needs: Literal["n_domains", "resolution"]
    tissue: bool = False
    views: bool = False
    probability: bool = False
    options: tuple[str, ...] = ()


CLUSTERERS = {
    "tissue": Clusterer("the tissue field", needs="n_domains", tissue=True, views=True, probability=True),
    "mixture": Clusterer("the mixture", needs="n_domains", probability=True),
    "kmeans": Clusterer("k-means", needs="n_domains"),
    "leiden": Clusterer("Leiden", needs="resolution", tissue=True, options=("spatial_weight",)),
}


def _in_words(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def going_by(setting: str) -> str:
    """Names of the ways that go by a setting, as a list in words."""
    return _in_words(name for name, clusterer in CLUSTERERS.items() if clusterer.needs == setting)


def taking(option: str) -> str:
    """Names of the ways that take a further setting, as a list in words."""
    return _in_words(name for name, clusterer in CLUSTERERS.items() if option in clusterer.options)
