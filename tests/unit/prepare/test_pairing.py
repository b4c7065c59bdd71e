"""Files that share little, lie in another frame or belong to another slice are told; others are not."""

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mosaic.prepare import pairing

GRID = np.column_stack(np.divmod(np.arange(144), 12)).astype(float)


def part(barcodes=None, places=GRID, features=("Actb", "Gapdh", "Cd4", "Cd8a", "Ms4a1")):
    """A file without counts. Spots lie row by row, by default with 144 barcodes of ten letters."""
    if barcodes is None:
        barcodes = [f"{number:08b}".translate(str.maketrans("01", "AC")) + "GT" for number in range(len(places))]
    return ad.AnnData(
        obs=pd.DataFrame(index=barcodes), var=pd.DataFrame(index=[*features]), obsm={"spatial": np.array(places)}
    )


def slices(**changed):
    """Two slices with RNA and protein, the second of other spots, and a third with RNA alone."""
    made = {
        "s1_rna": part(),
        "s1_adt": part(features=["CD4", "CD8"]),
        "s2_rna": part()[15:].copy(),
        "s2_adt": part(features=["CD4", "CD8"])[15:].copy(),
        "s3_rna": part([f"T{number}" for number in range(144)]),
    }
    return {tuple(name.split("_")): adata for name, adata in (made | changed).items()}


def only(faults):
    assert len(faults) == 1, list(map(str, faults))
    return str(faults[0])


def test_files_that_belong_together_say_nothing():
    found = pairing.compare(slices())
    assert found.faults == found.warnings == []
    assert found.spots.to_dict("records") == [
        {"slice": "s1", "first": "rna", "second": "adt", "shared": 144, "smaller": 144, "apart": 0},
        {"slice": "s2", "first": "rna", "second": "adt", "shared": 129, "smaller": 129, "apart": 0},
    ]
    assert found.features.to_dict("records") == [
        {"modality": "rna", "shared": 5, "smallest": 5},
        {"modality": "adt", "shared": 2, "smallest": 2},
    ]


def test_a_modality_of_a_part_of_the_slice_and_in_any_order_says_nothing():
    found = pairing.compare(slices(s1_adt=part(features=["CD4", "CD8"])[[5, 3, 80, 2]].copy()))
    assert found.faults == found.warnings == []
    assert found.spots["smaller"].tolist() == [4, 129]


def test_barcodes_come_from_obs_where_it_has_them():
    changed = part()
    changed.obs["barcode"], changed.obs_names = changed.obs_names, "s1:" + changed.obs_names
    assert pairing.compare(slices(s1_rna=changed)).faults == []


@pytest.mark.parametrize(
    ("spelled", "mend"),
    [
        (lambda name: f"{name}-1", "take '-1' off the end of the names of adt"),
        (lambda name: f"s1_{name}", "take 's1_' off the beginning of the names of adt"),
        (str.lower, "upper and lower case"),
    ],
)
def test_barcodes_spelled_otherwise_are_refused_with_both_spellings(spelled, mend):
    adt = part(map(spelled, part().obs_names), features=["CD4", "CD8"])
    told = only(pairing.compare(slices(s1_adt=adt)).faults)
    assert told.startswith("slice s1: rna and adt share 0 of 144 barcodes (0%): rna alone has AAAAAAAAGT, ")
    assert f"adt alone has {spelled('AAAAAAAAGT')}, " in told
    assert mend in told


@pytest.mark.parametrize(("shared", "faults", "warnings"), [(14, 1, 0), (15, 0, 1), (115, 0, 1), (116, 0, 0)])
def test_below_80_percent_is_a_warning_and_below_10_an_error(shared, faults, warnings):
    names = [*part().obs_names[:shared], *(f"T{number}" for number in range(shared, 144))]
    found = pairing.compare(slices(s1_adt=part(names, features=["CD4", "CD8"])))
    assert (len(found.faults), len(found.warnings)) == (faults, warnings)
    for told in map(str, found.faults + found.warnings):
        assert f"share {shared} of 144 barcodes" in told


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        (GRID[:, ::-1], "x and y exchanged"),
        (GRID * 10, "in another unit, 10 times as large"),
        (GRID[:, ::-1] * 0.1, "in another unit, 0.1 times as large and x and y exchanged"),
        (GRID * (1, -1), "y mirrored"),
        (GRID * (-1, -1) + 40, "turned by 180°"),
        (GRID @ [[np.cos(0.5), np.sin(0.5)], [-np.sin(0.5), np.cos(0.5)]], "turned by 28.6°"),
        (GRID + np.array((500, 0)), "shifted by 500 in x and 0 in y"),
    ],
)
@pytest.mark.parametrize("astray", [False, True])
def test_coordinates_in_another_frame_are_refused_and_it_is_named(changed, seen, astray):
    changed = changed.copy()
    if astray:
        changed[7] = 1e9
    told = only(pairing.compare(slices(s1_adt=part(places=changed, features=["CD4", "CD8"]))).faults)
    assert told.startswith("slice s1: the same barcodes lie at other places in rna and adt, ")
    assert f"adt has the places of rna, {seen}\n" in told
    assert "give the spots the same coordinates" in told


def test_coordinates_without_any_relation_are_refused():
    places = np.random.default_rng(0).permutation(GRID)
    told = only(pairing.compare(slices(s1_adt=part(places=places, features=["CD4", "CD8"]))).faults)
    assert "adt has the places" not in told


def test_rounding_says_nothing_and_a_small_shift_is_a_warning():
    rounded = part(places=np.round(GRID / 4, 1) * 4, features=["CD4", "CD8"])
    assert pairing.compare(slices(s1_adt=rounded)).warnings == []
    found = pairing.compare(slices(s1_adt=part(places=GRID + np.array((0.7, 0)), features=["CD4", "CD8"])))
    assert found.faults == []
    assert "slightly other places in rna and adt, by up to 0.7 times" in only(found.warnings)


def test_a_single_spot_at_two_places_is_a_warning():
    places = GRID.copy()
    places[3] = 1e9
    found = pairing.compare(slices(s1_adt=part(places=places, features=["CD4", "CD8"])))
    assert found.faults == []
    assert "1 of 144 spots lie at other places in rna and adt: AAAAAACCGT" in only(found.warnings)


def test_exchanged_files_of_two_slices_are_told_by_repeated_barcodes():
    right = slices()
    wrong = right | {("s1", "adt"): right["s2", "adt"], ("s2", "adt"): right["s1", "adt"]}
    first, second = map(str, pairing.compare(wrong).faults)
    assert "slice s1: rna of s1 shares 100.0% of the spots" in first
    assert "and all with adt of s2" in first
    assert "files of s1 and s2 look exchanged" in first
    assert "slice s2: " in second


def test_exchanged_files_of_three_slices_are_told():
    cut = {name: np.delete(np.arange(144), rows) for name, rows in (("a", [1]), ("b", [2]), ("c", [3]))}
    files = {name: (part()[rows].copy(), part(features=["CD4"])[rows].copy()) for name, rows in cut.items()}
    wrong = {(name, "rna"): files[name][0] for name in "abc"}
    wrong |= {(name, "adt"): files[other][1] for name, other in zip("abc", "bca", strict=True)}
    told = [str(fault) for fault in pairing.compare(wrong).faults]
    assert [re.search("and all with adt of (.)", text)[1] for text in told] == ["c", "a", "b"]


def test_exchanged_files_whose_partners_are_other_modalities_are_told():
    files = {("s1", "rna"): part(), ("s1", "atac"): part(), ("s2", "rna"): part()[9:].copy()}
    files["s2", "adt"] = files["s2", "rna"]
    assert pairing.compare(files).faults == []
    files["s1", "rna"], files["s2", "rna"] = files["s2", "rna"], files["s1", "rna"]
    assert len(pairing.compare(files).faults) == 2


def test_exchanged_files_are_told_by_coordinates_where_all_slices_have_the_same_barcodes():
    pixels = GRID * 50 + (300, 900)
    right = slices(s2_rna=part(places=pixels), s2_adt=part(places=pixels, features=["CD4", "CD8"]))
    wrong = right | {("s1", "adt"): right["s2", "adt"], ("s2", "adt"): right["s1", "adt"]}
    assert [str(fault)[:9] for fault in pairing.compare(wrong).faults] == ["slice s1:", "slice s2:"]
    # The partner of one is no bridge, so that there is nothing to compare the other with.
    del wrong["s2", "rna"]
    assert "adt of s2 and rna of s1 share all" in only(pairing.compare(wrong).faults)


def test_slices_whose_barcodes_and_places_are_all_alike_are_taken_as_they_stand():
    found = pairing.compare({(name, m): part() for name in "abc" for m in ("rna", "adt")})
    assert found.faults == found.warnings == []


def test_data_that_are_there_twice_are_told():
    def counted(seed, layer=True):
        adata = part([f"b{number}" for number in range(144)])
        counts = sparse.csr_matrix(np.random.default_rng(seed).poisson(2, (144, 5)).astype(np.float32))
        adata.obs["barcode"] = adata.obs_names.to_numpy()
        adata.obs_names = f"{seed}:" + adata.obs_names
        adata.layers.update({"counts": counts} if layer else {})
        adata.X = None if layer else counts.toarray()
        return adata

    for layer in (True, False):
        given = {("s1", "rna"): counted(1, layer), ("s1", "adt"): counted(2, layer), ("s2", "rna"): counted(3, layer)}
        marks = {key: pairing.fingerprint(adata) for key, adata in given.items()}
        assert pairing.compare(given, marks).faults == []
        for key in (("s1", "adt"), ("s2", "rna")):
            told = only(pairing.compare(given, marks | {key: pairing.fingerprint(counted(1, layer))}).faults)
            assert f"{key[1]} of slice {key[0]}: holds the very same barcodes, features and values as rna of s1" in told
    other = counted(1)
    other.var_names = [*other.var_names[:-1], "CD20"]
    assert pairing.fingerprint(other) != pairing.fingerprint(counted(1))


def test_few_features_in_common_are_refused_with_both_spellings():
    genes = [f"Gene{number}" for number in range(120)]
    files = {name: part(features=genes) for name in ("s1_rna", "s2_rna", "s3_rna")}
    files["s2_rna"] = part(features=genes[:6] + [f"ENSG{number:06}" for number in range(114)])[15:].copy()
    found = pairing.compare(slices(**files))
    told = only(found.faults)
    assert told.startswith("modality rna: the slices share 6 of 120 features (5%), and without s2 120")
    for part_of_it in ("in s1 Gene6, Gene7, Gene8 and 111 more", "in s2 ENSG000000, ", "symbols or Ensembl ids"):
        assert part_of_it in told
    assert found.features["shared"].tolist() == [6, 2]


def test_features_that_differ_in_case_or_version_are_named():
    genes = [f"ENSG{number:06}" for number in range(50)]
    for changed, mend in (
        ([name.lower() for name in genes], "upper and lower case"),
        ([f"{name}.{len(name) + n % 3}" for n, name in enumerate(genes)], "the last dot"),
    ):
        files = {("a", "rna"): part(features=genes), ("b", "rna"): part(features=changed)}
        assert mend in only(pairing.compare(files).faults)


@pytest.mark.parametrize(("shared", "faults", "warnings"), [(9, 1, 0), (10, 0, 1), (79, 0, 1), (80, 0, 0)])
def test_features_below_80_percent_are_a_warning_and_below_10_an_error(shared, faults, warnings):
    genes = [f"g{number}" for number in range(200)]
    files = {
        ("a", "rna"): part(features=genes),
        ("b", "rna"): part(features=genes[-shared:] + [f"h{number}" for number in range(100 - shared)]),
    }
    found = pairing.compare(files)
    assert (len(found.faults), len(found.warnings)) == (faults, warnings)


DESIGNS = ("simulation/replicate1", "pbmc_mosaic", "cortex_rna_atac", "mouse_brain_inputs", "lymph_node_adt")


@pytest.mark.parametrize("folder", [*DESIGNS, "serial_breast_st"])
def test_published_data_are_taken_without_a_word(shared_data, folder):
    files = {}
    for path in (shared_data / folder).glob("*.h5ad"):
        name, _, modality = path.stem.partition("_")
        files[name, modality or "rna"] = ad.read_h5ad(path, backed="r")
    found = pairing.compare(files)
    assert found.faults == found.warnings == []
    assert len(found.spots) + len(found.features) > 0
