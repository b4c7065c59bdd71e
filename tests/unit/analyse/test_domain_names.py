"""Names of domains: carried to the domains that are the same, however these are numbered, and to no others."""

import numpy as np
import pandas as pd
import pytest

from mosaic.analyse.domain_names import name_domains
from mosaic.errors import InputError

SPOTS = pd.Index([f"s1:{number}" for number in range(40)])
FIRST = pd.Series(np.repeat([0, 1, 2, 10], 10), SPOTS)
NAMES = {"0": "follicle", "2": "medulla"}


def test_the_first_run_is_named_by_its_numbers():
    table = name_domains(FIRST, FIRST, NAMES)
    assert table.index.tolist() == [0, 1, 2, 10]
    assert table["name"].tolist() == ["follicle", "1", "medulla", "10"]
    assert table["counterpart"].tolist() == [0, 1, 2, 10]
    assert (table["shared"] == 1).all()


def test_names_follow_spots_not_numbers_nor_rows():
    other = FIRST.map({0: 2, 1: 0, 2: 1, 10: 3})
    table = name_domains(other.sample(frac=1, random_state=0), FIRST, NAMES)
    assert table["counterpart"].to_dict() == {0: 1, 1: 2, 2: 0, 3: 10}
    assert table["name"].to_dict() == {0: "0", 1: "medulla", 2: "follicle", 3: "3"}


def test_what_is_another_domain_keeps_its_number():
    # Domain 0 holds 0 and 1 of the first run and a part of 2; domain 1 the rest of 2; domain 2 the last.
    other = pd.Series([0] * 24 + [1] * 6 + [2] * 10, SPOTS)
    table = name_domains(other, FIRST, {"0": "a", "1": "b", "2": "c"})
    assert table["name"].to_dict() == {0: "0", 1: "c", 2: "2"}
    assert table.loc[0, "shared"] == pytest.approx(10 / 24)
    # More domains than in the first run: one is without counterpart.
    more = pd.Series([0] * 5 + [1] * 5 + [2] * 10 + [3] * 10 + [4] * 10, SPOTS)
    table = name_domains(more, FIRST, {"0": "a"})
    assert table["counterpart"].isna().sum() == 1
    assert table["name"].tolist().count("a") == 1


def test_a_name_for_a_domain_that_is_not_there_is_an_error():
    with pytest.raises(InputError, match=r"the first run has no domain 3, 11(?s:.*)its domains are 0, 1, 2, 10"):
        name_domains(FIRST, FIRST, {"11": "x", "3": "y", "0": "z"})
