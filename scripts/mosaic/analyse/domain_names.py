"""Names of domains: those of the first run's domains, carried to the matching domains of further seeds and methods."""

from collections.abc import Mapping

import pandas as pd

from mosaic.errors import InputError
from mosaic.matrices import match_labels

# A domain takes the name of its counterpart only if more than this proportion of its spots lie in it.
_SAME = 0.5


def name_domains(domains: pd.Series, first: pd.Series, names: Mapping[str, str]) -> pd.DataFrame:
    """Match the domains of a run with those of the first run, and name them.

    Domains are matched one to one such that the pairs share the most spots (Hungarian method; Kuhn, Naval Research
    Logistics 1955).

    Parameters
    ----------
    domains
        Number of each spot's domain, by spot.
    first
        The same of the first run, whose domains the names describe.
    names
        Names by the numbers (as text) of the first run's domains; a domain without one keeps its number.

    Returns
    -------
    Per ``domain``, by number: ``name``; its ``counterpart`` in the first run, missing for a domain that shares no spot
    with it; and ``shared``, the proportion of its spots that lie in the counterpart. A domain with less than half of
    its spots there is another one, and keeps its number as a name.

    Raises
    ------
    InputError
        If a name is for a domain that the first run does not have.
    """
    known = {str(number) for number in first.unique()}
    if strangers := sorted(set(names) - known, key=int):
        raise InputError(
            f"the first run has no domain {', '.join(strangers)}",
            where="config key domains.names",
            hint=f"its domains are {', '.join(sorted(known, key=int))}, as its figures show",
        )
    overlap = pd.crosstab(domains, first.loc[domains.index])
    matched = match_labels(overlap)
    rows = []
    for domain, sizes in overlap.iterrows():
        other = matched.get(domain)
        shared = 0.0 if other is None else sizes[other] / sizes.sum()
        name = names.get(str(other)) if shared > _SAME else None
        rows.append((domain, name or str(domain), other if shared else None, shared))
    table = pd.DataFrame(rows, columns=["domain", "name", "counterpart", "shared"])
    return table.astype({"counterpart": "Int64"}).set_index("domain")
