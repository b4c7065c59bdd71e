"""Reading and checking users' files."""

import subprocess
import sys
import zipfile
from pathlib import Path

import anndata as ad
import h5py
import mudata as md
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mosaic.config.readers import READERS, Reader, known, reader_of
from mosaic.errors import InputError
from mosaic.prepare import read
from mosaic.prepare.readers import h5ad, hdf5, parts


def test_reads_counts_names_and_places(raw_slice, written):
    raw = raw_slice()
    adata = read.read_slice(written(raw), "s1", "rna")
    assert adata.obs_names[0] == "s1:BC000-1"
    assert adata.obs["slice"].unique().tolist() == ["s1"]
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), raw.X.toarray())
    np.testing.assert_array_equal(adata.obsm["spatial"], raw.obsm["spatial"])


def test_spots_far_from_all_others_are_named(raw_slice, written, caplog):
    raw = raw_slice()
    raw.obsm["spatial"][4] = 1e9
    read.read_slice(written(raw), "s1", "rna")
    assert "1 of 30 spots lie far from all others (BC004-1): maps leave them out" in caplog.text


def test_spots_at_one_place_are_told(raw_slice, written, caplog):
    raw = raw_slice(n_spots=200)
    raw.obsm["spatial"][:10] = 0
    read.read_slice(written(raw), "s1", "rna")
    assert "lie at one place" not in caplog.text
    raw.obsm["spatial"][:20] = 0
    read.read_slice(written(raw), "s1", "rna")
    assert "20 of 200 spots lie at one place (x 0, y 0)" in caplog.text


def test_counts_layer_wins_over_x(raw_slice, written):
    raw = raw_slice()
    raw.layers["counts"] = raw.X.copy()
    raw.X = sparse.csr_matrix(np.log1p(raw.X.toarray()))
    np.testing.assert_array_equal(
        read.read_slice(written(raw), "s1", "rna").layers["counts"].toarray(), raw.layers["counts"].toarray()
    )


def test_features_may_be_any_finite_numbers(raw_slice, written):
    raw = raw_slice()
    raw.X = -0.5 * raw.X.toarray()
    adata = read.read_slice(written(raw), "s1", "features")
    assert "counts" not in adata.layers
    np.testing.assert_allclose(adata.X, raw.X)


@pytest.mark.parametrize("stored", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_counts_however_they_are_stored(raw_slice, written, stored, monkeypatch):
    raw = raw_slice()
    expected = raw.X.toarray()
    raw.X = stored(expected)
    monkeypatch.setattr(h5ad, "_CHUNK_VALUES", 30)  # two rows and a half
    counts = read.read_slice(written(raw), "s1", "rna").layers["counts"]
    assert counts.format == "csr"
    np.testing.assert_array_equal(counts.toarray(), expected)


def test_genes_and_proteins_of_one_file_are_told_apart(raw_slice, written, monkeypatch, caplog):
    caplog.set_level("INFO")
    raw = raw_slice()
    types = ["Gene Expression", "Antibody Capture"] * 6
    raw.var["feature_types"] = types
    raw.var["symbol"] = [f"S{number}" for number in range(12)]
    counts = raw.X.toarray()
    for stored in (sparse.csr_matrix, sparse.csc_matrix):
        raw.X = stored(counts)
        for source in (written(raw), raw):
            adata = read.read_slice(source, "s1", "rna")
            assert adata.var_names.tolist() == ["g0", "g2", "g4", "g6", "g8", "g10"]
            np.testing.assert_array_equal(adata.layers["counts"].toarray(), counts[:, ::2])
            assert read.read_slice(source, "s1", "protein").var_names.tolist() == raw.var_names[1::2].tolist()
            called = read.read_features(source, "s1", "protein")
            assert called["symbol"].to_dict() == {f"g{number}": f"S{number}" for number in range(1, 12, 2)}
    assert "6 of 12 features are read; Antibody Capture are others" in caplog.text
    assert raw.var.columns.tolist() == ["feature_types", "symbol"]
    raw.layers["counts"] = raw.X.copy()
    raw.X = -raw.X
    assert read.read_slice(written(raw), "s1", "rna").n_vars == 6
    # A sample of columns.
    monkeypatch.setattr(read, "_SAMPLE_ABOVE", 100)
    monkeypatch.setattr(h5ad, "_SAMPLED", 2)
    adata, faults = read.inspect_slice(written(raw), "s1", "protein")
    assert (adata.shape, faults) == ((30, 6), [])
    with pytest.raises(InputError, match="no features of type Peaks, which kind epigenome needs"):
        read.read_slice(raw, "s1", "epigenome")
    # Types of the user's own say nothing.
    raw.var["feature_types"] = ["receptor", "other"] * 6
    assert read.read_slice(raw, "s1", "protein").n_vars == 12


def test_identifiers_that_are_missing_are_no_text(raw_slice, written):
    raw = raw_slice()
    raw.var["gene_ids"] = ["ENSG00000000001", np.nan, "NA", *["ENSG00000000002"] * 9]
    raw.var["symbol"] = ["nan", "A", *["b"] * 10]
    adata = read.read_slice(written(raw), "s1", "rna")
    assert adata.var["gene_id"].tolist()[:4] == ["ENSG00000000001", "", "", "ENSG00000000002"]
    called = read.read_features(written(raw), "s1", "rna")
    assert called.iloc[:3].to_numpy().tolist() == [["ENSG00000000001", ""], ["", "A"], ["", "b"]]


def test_only_what_is_needed_is_read(raw_slice, written):
    raw = raw_slice()
    raw.layers["other"] = raw.X.copy()
    raw.uns["junk"] = {"a": 1}
    raw.obsm["X_pca"] = np.ones((raw.n_obs, 3))
    adata = read.read_slice(written(raw), "s1", "rna")
    assert (list(adata.layers), list(adata.obsm), list(adata.uns)) == (["counts"], ["spatial"], [])
    assert adata.X is None


def with_junk(raw):
    """What a file holds that was through a tutorial; the selection in it is no good."""
    raw.var["highly_variable"] = np.arange(raw.n_vars) < 2
    raw.var["gene_ids"] = [f"ENSG{number}" for number in range(raw.n_vars)]
    raw.obs["total_counts"] = np.asarray(raw.X.sum(axis=1)).ravel()
    raw.obs["leiden"] = pd.Categorical(["1"] * raw.n_obs)
    raw.uns |= {"log1p": {"base": 2}, "hvg": {"flavor": "seurat"}, "neighbors": {"params": {}}}
    raw.obsm["X_pca"], raw.varm["PCs"] = np.ones((raw.n_obs, 3)), np.ones((raw.n_vars, 3))
    return raw


def test_nothing_goes_on_but_what_is_named(raw_slice, written):
    plain = read.read_slice(written(raw_slice()), "s1", "rna")
    adata = read.read_slice(written(with_junk(raw_slice())), "s1", "rna")
    assert adata.obs.columns.tolist() == ["slice", "barcode", "in_tissue"]
    assert adata.var.columns.tolist() == ["gene_id"]
    assert adata.var["gene_id"].tolist()[:2] == ["ENSG0", "ENSG1"]
    assert not len(adata.uns) + len(adata.varm) + len(adata.obsp)
    pd.testing.assert_frame_equal(adata.obs, plain.obs)
    named = read.read_slice(written(with_junk(raw_slice())), "s1", "rna", truth="leiden", keep_obs=["total_counts"])
    assert named.obs.columns.tolist() == ["slice", "barcode", "in_tissue", "leiden", "total_counts"]
    assert named.obs["total_counts"].dtype == np.float32


@pytest.mark.parametrize(
    "values", [[1, 0], [1.0, 0.0], [True, False], ["1", "0"], ["True", "False"], ["1.0", "0.0"], [" true", "FALSE "]]
)
def test_tissue_however_it_is_written(raw_slice, written, values):
    raw = raw_slice()
    raw.obs["in_tissue"] = np.array(values)[np.arange(30) % 2]
    tissue = read.read_slice(written(raw), "s1", "rna").obs["in_tissue"]
    assert tissue.dtype == bool
    assert tissue.tolist() == [True, False] * 15


def test_coordinates_may_be_a_table(raw_slice, written):
    raw = raw_slice()
    places = raw.obsm["spatial"]
    raw.obsm["spatial"] = pd.DataFrame(places, index=raw.obs_names, columns=["x", "y"])
    raw.uns["microns_per_unit"] = 0.5
    np.testing.assert_array_equal(read.read_slice(written(raw), "s1", "rna").obsm["spatial"], places)
    assert read.read_tissue(written(raw), "s1").microns_per_unit == 0.5


def test_words_for_no_domain_are_missing(raw_slice, written, caplog):
    raw = raw_slice()
    raw.obs["domain"] = ["nan", "", " NA", "None", "null", "n/a", *["cortex"] * 24]
    domain = read.read_slice(written(raw), "s1", "rna", truth="domain").obs["domain"]
    assert domain.isna().sum() == 6
    assert domain.cat.categories.tolist() == ["cortex"]
    assert "obs['domain'] has text that means no true domain for 6 of 30 spots ('nan' in 1, '' in 1" in caplog.text
    kept = read.read_slice(written(raw), "s1", "rna", keep_obs=["domain"]).obs["domain"]
    assert kept.notna().all()


def test_domains_that_are_numbers_are_spelled_alike():
    whole = read.named_columns(pd.DataFrame({"d": [1, 2]}), "d", [], "a")["d"]
    floating = read.named_columns(pd.DataFrame({"d": [1.0, np.nan]}), "d", [], "a")["d"]
    assert whole.tolist() == ["1", "2"]
    assert floating.tolist()[0] == "1"
    assert floating.isna().tolist() == [False, True]


def test_a_large_matrix_is_sampled(raw_slice, written, monkeypatch):
    monkeypatch.setattr(read, "_SAMPLE_ABOVE", 100)
    monkeypatch.setattr(h5ad, "_SAMPLED", 5)
    for stored in (np.asarray, sparse.csr_matrix, sparse.csc_matrix):
        raw = raw_slice(n_spots=60, n_features=20)
        counts = raw.X.toarray()
        counts[20, 7] = 0.5  # between the parts of rows, and of columns, that are looked at
        raw.X = stored(counts)
        adata, faults = read.inspect_slice(written(raw), "s1", "rna")
        assert faults == []
        assert adata.shape == (60, 20)
        counts[30, 10] = 0.5
        raw.X = stored(counts)
        (fault,) = read.inspect_slice(written(raw), "s1", "rna")[1]
        with pytest.raises(InputError) as caught:
            read.read_slice(written(raw), "s1", "rna")
        assert str(fault) == str(caught.value)
        raw.X = stored(np.eye(60, 20) * (np.arange(60) == 17)[:, None])
        assert read.inspect_slice(written(raw), "s1", "rna")[1] == []


def test_all_faults_of_a_file_are_found(raw_slice, written):
    raw = broken(raw_slice(), "fraction")
    raw.obs["in_tissue"] = "perhaps"
    raw.obsm["spatial"][3, 1] = np.nan
    raw.obs_names = ["BC000-1", *raw.obs_names[:-1]]
    path = written(raw)
    with pytest.warns(UserWarning, match="names are not unique"):
        faults = read.inspect_slice(path, "s1", "rna")[1]
    assert len(faults) == 4
    for part, fault in zip(("1 duplicate barcode", "NaN", "in_tissue", "no whole numbers"), faults, strict=True):
        assert part in str(fault)


def test_formats_that_are_no_slice(raw_slice, tmp_path):
    with h5py.File(tmp_path / "10x.h5", "w") as file:
        for name in ("barcodes", "data", "indices", "indptr", "shape"):
            file[f"matrix/{name}"] = np.zeros(3)
    refused(tmp_path / "10x.h5", "holds no positions: a table of positions expected, and 10x.h5", "column positions")


def test_a_modality_of_a_mudata(raw_slice, tmp_path):
    md.set_options(pull_on_update=False)
    rna, adt = raw_slice(), raw_slice(20, 4, seed=1, prefix="CD")
    places = rna.obsm.pop("spatial")
    adt = adt[::-1].copy()
    del adt.obsm["spatial"]
    rna.obs["depth"] = 1.0
    mdata = md.MuData({"rna": rna, "prot": adt})
    order = rna.obs_names.get_indexer(mdata.obs_names)
    mdata.obsm["spatial"] = places[order]
    mdata.obs["domain"] = [f"d{number}" for number in order]
    path = tmp_path / "all.h5mu"
    mdata.write_h5mu(path)
    found = read.read_slice(path, "s1", "rna", modality="rna", keep_obs=["depth", "domain"])
    np.testing.assert_array_equal(found.layers["counts"].toarray(), rna.X.toarray())
    np.testing.assert_array_equal(found.obsm["spatial"], places)
    assert found.obs["domain"].tolist() == [f"d{number}" for number in range(30)]
    protein = read.read_slice(path, "s1", "protein", modality="adt", options={"name": "prot"})
    np.testing.assert_array_equal(protein.obsm["spatial"], places[19::-1])
    np.testing.assert_array_equal(protein.layers["counts"].toarray(), adt.X.toarray())
    columns = read.read_columns(path, "s1", "domain", [], options={"name": "prot"})
    assert columns["domain"].tolist() == [f"d{number}" for number in range(19, -1, -1)]
    with pytest.raises(InputError, match=r"has the modalities prot, rna, and none is named adt\n.*all\.h5mu#prot"):
        read.read_slice(path, "s1", "protein", modality="adt")
    assert [part[:3] for part in read.FUNCTIONS["h5mu"].contents(str(path))] == [
        ("prot", "protein", ""),
        ("rna", "rna", ""),
    ]


def test_a_file_that_another_program_holds(raw_slice, written):
    path = written(raw_slice())
    code = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, path], **pipes) as holder:
        assert holder.stdout.readline() == b"open\n"
        try:
            refused(path, "is locked: another program has it open to write", "close it there")
        finally:
            holder.stdin.close()


def broken(raw, fault):
    raw.X = raw.X.toarray()
    if fault == "negative":
        raw.X[0, 0] = -1
    elif fault == "fraction":
        raw.X[0, 0] = 0.5
    elif fault == "nan":
        raw.X[0, 0] = np.nan
    elif fault == "infinite":
        raw.X[0, 0] = np.inf
    elif fault == "zeros":
        raw.X[:] = 0
    elif fault == "no X":
        raw.X = None
    elif fault == "no spatial":
        del raw.obsm["spatial"]
    elif fault == "spatial nan":
        raw.obsm["spatial"][3, 1] = np.nan
    elif fault == "spatial equal":
        raw.obsm["spatial"][:] = 1.0
    elif fault == "spatial far":
        raw.obsm["spatial"] *= 1e200
    elif fault == "spatial complex":
        raw.obsm["spatial"] = raw.obsm["spatial"] * 1j
    elif fault == "spatial text":
        raw.obsm["spatial"] = raw.obsm["spatial"].astype(str)
    elif fault == "spatial 3d":
        raw.obsm["spatial"] = raw.obsm["spatial"][:, :, None]
    elif fault == "beyond float32":
        raw.X = raw.X.astype(float)
        raw.X[0, 0] = 1e39
    elif fault == "spatial 1d":
        raw.obsm["spatial"] = raw.obsm["spatial"][:, :1]
    elif fault == "barcodes":
        raw.obs_names = ["BC000-1", *raw.obs_names[:-1]]
    elif fault == "features":
        raw.var_names = ["g0", *raw.var_names[:-1]]
    elif fault == "beyond 2^24":
        raw.X = raw.X.astype(np.int64)
        raw.X[4, 7] = 2**24 + 1
    elif fault == "in_tissue missing":
        raw.obs["in_tissue"] = [1.0, np.nan, np.nan, *[0.0] * 27]
    elif fault == "in_tissue text":
        raw.obs["in_tissue"] = ["perhaps", *["1"] * 29]
    elif fault == "counts in raw":
        raw.raw = raw.copy()
        raw.X = np.log1p(raw.X)
    elif fault == "empty":
        return raw[:0].copy()
    return raw


@pytest.mark.filterwarnings("ignore:.*names are not unique")
@pytest.mark.parametrize(
    ("fault", "problem", "hint"),
    [
        ("negative", "X holds negative values", "raw counts"),
        ("fraction", "no whole numbers", "raw counts"),
        ("nan", "NaN or infinite", "raw counts"),
        ("infinite", "NaN or infinite", "raw counts"),
        ("zeros", "no counts: X holds only zeros", "raw counts"),
        ("no X", "no counts: X is missing", "raw counts"),
        ("no spatial", 'obsm["spatial"] is missing', "any unit"),
        ("spatial nan", "for 1 spots: BC003-1", "drop these spots"),
        ("spatial equal", "same coordinates", "position of each spot"),
        ("spatial 1d", "shape (30, 1)", "spots x 2"),
        ("spatial 3d", "shape (30, 2, 1)", "spots x 2"),
        ("spatial complex", "type complex128", "it must be numbers"),
        ("spatial text", "type object", "it must be numbers"),
        ("spatial far", "spans", "another unit"),
        ("beyond float32", "or some beyond 3e38", "raw counts"),
        ("barcodes", "1 duplicate barcode: BC000-1", "obs_names_make_unique"),
        ("features", "1 duplicate feature name: g0", "var_names_make_unique"),
        (
            "beyond 2^24",
            "X holds counts above 16,777,216, which float32 rounds: 16,777,217 of g7 in BC004-1",
            "divide them",
        ),
        ("in_tissue missing", 'obs["in_tissue"] is missing for 2 of 30 spots', "write 1 for spots under tissue"),
        (
            "in_tissue text",
            'obs["in_tissue"] holds values other than 0 and 1, in 1 spots: perhaps',
            "write 1 for spots",
        ),
        ("counts in raw", "X holds values that are no whole numbers", "adata.raw[:, adata.var_names].X"),
        ("empty", "is empty (0 spots x 12 features)", ""),
    ],
)
def test_data_fault_names_file_and_mend(raw_slice, written, fault, problem, hint):
    path = written(broken(raw_slice(), fault))
    with pytest.raises(InputError) as caught:
        read.read_slice(path, "s1", "rna")
    text = str(caught.value)
    assert text.startswith(str(path))
    assert problem in text
    assert hint in text
    assert text in map(str, read.inspect_slice(path, "s1", "rna")[1])


def test_features_beyond_float32(raw_slice, written):
    raw = raw_slice()
    raw.X = raw.X.toarray().astype(float) * 1e39
    with pytest.raises(InputError, match="or some beyond 3e38"):
        read.read_slice(written(raw), "s1", "features")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty (0 bytes)"),
        (b"spot,gene\n", "is no file that is known"),
        (b"\x89HDF\r\n\x1a\n truncated", "can't be read as h5ad ("),
    ],
)
def test_unreadable_file(tmp_path, content, problem):
    path = tmp_path / "slice.h5ad"
    path.write_bytes(content)
    refused(path, problem, "check that it was copied whole")


def refused(path, problem, hint, kind="rna"):
    with pytest.raises(InputError) as caught:
        read.read_slice(path, "s1", kind)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert problem in text
    assert hint in text.partition("\n    Hint: ")[2]
    assert text.count("\n") == 1
    assert len(text) < 700


def test_what_is_no_file_of_its_own(raw_slice, written, tmp_path, monkeypatch):
    refused(tmp_path, "is a folder that is not known: it holds nothing", "look whether the folder is whole")
    refused(tmp_path / "gone.h5ad", "can't be opened (No such file", "names a file")
    (tmp_path / "link.h5ad").symlink_to("nowhere.h5ad")
    refused(tmp_path / "link.h5ad", "can't be opened (No such file", "a link leads somewhere")
    with zipfile.ZipFile(tmp_path / "zip.h5ad", "w") as archive:
        archive.writestr("slice.h5ad", "x")
    refused(tmp_path / "zip.h5ad", "is a zip archive", "anndata's write_h5ad")

    def refuse(*args, **kwargs):  # tests may run as root, who may read everything
        raise PermissionError(13, "Permission denied")

    path = written(raw_slice())
    monkeypatch.setattr("builtins.open", refuse)
    refused(path, "can't be opened (Permission denied)", "you may read it")


def test_a_file_cut_anywhere(raw_slice, written, tmp_path):
    whole = written(raw_slice()).read_bytes()
    path = tmp_path / "cut.h5ad"
    for share in np.linspace(0, 1, 25, endpoint=False):
        path.write_bytes(whole[: int(share * len(whole))])
        refused(path, "", "check that it was copied whole")


def replaced(file, place, value, **options):
    """Put another dataset where one is, with its attributes; an array, or options of a dataset never filled."""
    attributes = dict(file[place].attrs) if place in file and isinstance(file[place], h5py.Dataset) else {}
    if place in file:
        del file[place]
    file.create_dataset(place, data=value, **options).attrs.update(attributes)


def viewed(file, place, other):
    """Put a view of a dataset of another file where one is."""
    del file[place]
    layout = h5py.VirtualLayout(shape=(30, 12), dtype="f4")
    layout[:] = h5py.VirtualSource(other, "X", shape=(30, 12))
    file.create_virtual_dataset(place, layout)


HUGE = {"chunks": True, "dtype": "f4"}


DAMAGES = {
    "no obs": (lambda f: f.pop("obs"), "holds no table obs"),
    "no var": (lambda f: f.pop("var"), "holds no table var"),
    "an empty obs": (lambda f: (f.pop("obs"), f.create_group("obs")), "holds no table obs"),
    "numbers as obs": (lambda f: replaced(f, "obs", np.arange(30)), "holds no table obs"),
    "an index elsewhere": (lambda f: f["obs"].attrs.update(_index=3), "holds no table obs"),
    "an empty group as X": (lambda f: (f.pop("X"), f.create_group("X")), "X is no matrix"),
    "no data": (lambda f: f["X"].pop("data"), "X is no matrix"),
    "text as X": (lambda f: replaced(f, "X", np.full((30, 12), "1", object)), "X holds object"),
    "complex numbers": (lambda f: replaced(f, "X", np.ones((30, 12), complex)), "X holds complex128"),
    "one dimension": (lambda f: replaced(f, "X", np.ones(30)), "X has shape (30,), but there are 30 spots in obs"),
    "240 GB dense": (lambda f: replaced(f, "X", None, shape=(30, 2 * 10**9), **HUGE), "X has shape (30, 2000000000)"),
    "96 GB of spots": (lambda f: replaced(f, "X", None, shape=(2 * 10**9, 12), **HUGE), "X has shape (2000000000, 12)"),
    "terabytes sparse": (lambda f: f["X"].attrs.update(shape=[10**12, 10**12]), "X has shape (1000000000000, "),
    "a negative shape": (lambda f: f["X"].attrs.update(shape=[-1, 12]), "X has shape (-1, 12)"),
    "10 TB of counts": (lambda f: replaced(f, "X/data", None, shape=(10**13,), **HUGE), "GB of memory"),
    "10 TB of places": (lambda f: replaced(f, "obsm/spatial", None, shape=(10**12, 2), **HUGE), "GB of memory"),
    "an index beyond": (lambda f: f["X/indices"].write_direct(np.full(len(f["X/indices"]), 10**6)), "must be < 12"),
    "an index below": (lambda f: f["X/indices"].write_direct(np.full(len(f["X/indices"]), -1)), "must be >= 0"),
    "rows that go back": (lambda f: f["X/indptr"].write_direct(np.arange(31)[::-1].copy()), "can't be read as h5ad"),
    "places of 20 spots": (lambda f: replaced(f, "obsm/spatial", np.ones((20, 2))), "has shape (20, 2), but there"),
    "one place": (lambda f: replaced(f, "obsm/spatial", 3), "has shape (), but there are 30 spots"),
    "X in another file": (lambda f: (f.pop("X"), f.update(X=h5py.ExternalLink("other.h5", "/X"))), "X lies in another"),
    "a link on the way": (
        lambda f: (f.pop("X"), f.update(X=h5py.SoftLink("/uns/x")), f["uns"].update(x=h5py.ExternalLink("o.h5", "/X"))),
        "uns/x lies in another file",
    ),
    "bytes of another file": (
        lambda f: replaced(f, "X", None, shape=(30, 12), dtype="f4", external=[("/etc/hostname", 0, 1440)]),
        "X lies in another file",
    ),
    "a view of another file": (lambda f: viewed(f, "X", "other.h5"), "X lies in another file"),
    "a link to itself": (lambda f: (f.pop("X"), f.update(X=h5py.SoftLink("/X"))), "can't be read as h5ad"),
    "Latin-1 barcodes": (
        lambda f: replaced(f, "obs/_index", np.array([b"\xe9%d" % i for i in range(30)], object)),
        "can't be read as h5ad (UnicodeDecodeError",
    ),
}


@pytest.mark.parametrize("kind", ["rna", "features"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_lying_file(raw_slice, written, damage, kind):
    change, problem = DAMAGES[damage]
    path = written(raw_slice())
    with h5py.File(path, "r+") as file:
        change(file)
    refused(path, problem, "", kind)


def test_features_that_memory_can_not_hold_dense(raw_slice, written, monkeypatch):
    path = written(raw_slice())
    monkeypatch.setattr(hdf5.os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 30 * 12 * 12 - 1}.get)
    refused(path, "GB of memory, and there are", "kind features is for a few columns", "features")


@pytest.mark.parametrize(
    ("member", "files", "job", "expected"),
    [
        ("0::/", {}, "", 1000),
        ("0::/", {"memory.max": "max"}, "", 1000),
        ("0::/job/step", {"job/memory.max": "300", "job/step/memory.max": "max"}, "", 300),
        ("0::/job/step", {"memory.max": "200", "job/step/memory.max": "400"}, "", 200),
        ("3:cpu:/\n4:memory:/job\n0::/", {"memory/job/memory.limit_in_bytes": "500"}, "", 500),
        ("0::/", {}, "0", 1000),  # all of the node's
        ("0::/", {}, "1", 1000),  # a MiB is more than this machine has
    ],
)
def test_memory_is_that_of_the_group_or_the_job(tmp_path, monkeypatch, member, files, job, expected):
    monkeypatch.setattr(hdf5.os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 1000}.get)
    monkeypatch.setattr(hdf5, "_PROCESS", tmp_path)
    monkeypatch.setattr(hdf5, "_GROUPS", tmp_path / "groups")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", job)
    (tmp_path / "cgroup").write_text(f"{member}\n")
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(f"{text}\n")
    assert hdf5.memory_limit() == expected


def test_memory_of_a_job_of_slurm(monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2")
    assert hdf5.memory_limit() == 2 * 2**20


def test_a_count_that_is_stored_in_parts(raw_slice, written):
    raw = raw_slice()
    expected = raw.X.toarray()
    expected[0, 0] = 5
    path = written(ad.AnnData(sparse.csr_matrix(expected), raw.obs, raw.var, obsm={"spatial": raw.obsm["spatial"]}))
    with h5py.File(path, "r+") as file:  # 5 as 2 and 3
        data, indices, indptr = (file[f"X/{name}"][:] for name in ("data", "indices", "indptr"))
        data[0] = 3
        replaced(file, "X/data", np.r_[np.float32(2), data])
        replaced(file, "X/indices", np.r_[np.int32(0), indices])
        replaced(file, "X/indptr", np.r_[0, indptr[1:] + 1])
    counts = read.read_slice(path, "s1", "rna").layers["counts"]
    assert counts.nnz == (expected > 0).sum()
    np.testing.assert_array_equal(counts.toarray(), expected)


@pytest.mark.filterwarnings("ignore:Transforming to str index", "ignore:.*without encoding", "ignore:.*are not unique")
def test_names_that_are_no_text_or_long_or_odd(raw_slice, written):
    raw = raw_slice()
    path = written(raw)
    with h5py.File(path, "r+") as file:
        del file["obs/_index"]
        file["obs/_index"] = np.arange(30)
    assert read.read_slice(path, "s1", "rna").obs_names[:2].tolist() == ["s1:0", "s1:1"]
    odd = ["", "x" * 300, "a/b", "<script>", "\x1b[31m", "Ω\n\t'\""]
    raw.obs_names = odd + raw.obs_names[6:].tolist()
    raw.var_names = odd + raw.var_names[6:].tolist()
    adata = read.read_slice(written(raw), "s1", "rna")
    assert adata.obs_names[:6].tolist() == [f"s1:{name}" for name in odd]
    assert adata.var_names[:6].tolist() == odd
    raw.var_names = ["\x1b[31m" + "x" * 300] * 12
    refused(written(raw), r"1 duplicate feature name: \x1b[31mxxxxxxxxxxxxxxxxxxxxxxxxx…", "var_names_make_unique")


def test_each_reader_has_its_functions():
    assert list(read.FUNCTIONS) == list(READERS)


def test_a_file_after_a_block_of_another_program_is_recognised(raw_slice, written, tmp_path):
    content = written(raw_slice()).read_bytes()
    for begin in (512, 2048):
        path = tmp_path / f"{begin}.h5ad"
        path.write_bytes(b"x" * begin + content)
        assert reader_of(path) == "h5ad"
        assert h5py.is_hdf5(path)
    path.write_bytes(b"x" * 700 + content)
    assert reader_of(path) is None


@pytest.fixture
def folder_reader(monkeypatch, raw_slice):
    """A reader of folders that hold `matrix`, which reads them whole and gives no features."""

    def folder(asked):
        assert (Path(asked.path) / "matrix").read_text() == "counts", "the matrix is cut"
        adata = raw_slice()
        adata.obs["in_tissue"] = 1
        return adata

    reader = Reader("a folder", lambda path: (Path(path) / "matrix").is_file(), kinds=("rna",))
    monkeypatch.setitem(READERS, "folder", reader)
    monkeypatch.setitem(read.FUNCTIONS, "folder", parts.whole(folder, lambda path: []))


def test_positions_for_a_file_that_has_its_own_are_told(raw_slice, written, tmp_path):
    table = tmp_path / "places.csv"
    table.write_text("barcode,x,y\nBC000-1,1,2\n")
    with pytest.raises(
        InputError, match=r"is an h5ad file, which has its coordinates itself, and the sheet names .*pl"
    ):
        read.read_slice(written(raw_slice()), "s1", "rna", options={"positions": str(table)})


def test_a_reader_that_reads_its_path_whole(raw_slice, tmp_path, folder_reader):
    (tmp_path / "matrix").write_text("counts")
    adata = read.read_slice(tmp_path, "s1", "rna", keep_obs=["in_tissue"])
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), raw_slice().X.toarray())
    looked_at, faults = read.inspect_slice(tmp_path, "s1", "rna")
    assert not faults
    assert looked_at.obs_names.tolist() == adata.obs_names.tolist()
    assert read.read_columns(tmp_path, "s1", None, ["in_tissue"])["in_tissue"].tolist() == [1] * 30


def test_a_reader_of_other_kinds_and_a_damaged_path_are_told(tmp_path, folder_reader):
    (tmp_path / "matrix").write_text("cou")
    refused(tmp_path, "can't be read (AssertionError: the matrix is cut", "copied whole")
    refused(tmp_path, "is a folder, which gives rna, not features", "change the modality's kind", kind="features")


def test_an_unknown_path_is_told_what_is_known(tmp_path, folder_reader):
    path = tmp_path / "slice.txt"
    path.write_text("spot")
    refused(path, "is no file that is known, so no reader takes it", known())
    assert known().endswith(" or a folder")
