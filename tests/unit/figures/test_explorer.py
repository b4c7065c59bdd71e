"""The data of the explorer are what the run found, to the step of a byte. The page: tests/test_explorer_page.py."""

import base64
import io
import json
import zlib

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

from mosaic.errors import InputError
from mosaic.figures import explorer, style
from mosaic.frame import Frame

HOSTILE = "</script><script>alert(1)</script>\u2028\"'"


def content(folder, name):
    """What a file hands to the page."""
    text = (folder / "data" / f"{name}.js").read_text(encoding="ascii")
    assert text.startswith(f'explorerData("{name}",')
    assert "<" not in text
    return json.loads(text[len(f'explorerData("{name}",') : -len(");\n")])


def unpacked(packed):
    return zlib.decompress(base64.b64decode(packed))


def codes(folder, run, at):
    """A column, in the order of the files."""
    whole = unpacked(content(folder, f"columns.{at // run['perFile']}"))
    place = at % run["perFile"] * run["n"]
    return np.frombuffer(whole[place : place + run["n"]], dtype=np.uint8)


def positions(folder, n):
    """x and y on the tissue as numbers of 14 bits, u and v in the UMAP of 12 bits."""
    planes = np.frombuffer(unpacked(content(folder, "spots")), dtype=np.uint8).reshape(4, 2, n).astype(np.uint16)
    numbers = planes[:, 0] << 8 | planes[:, 1]
    steps = (numbers[:2] >> 1) ^ -(numbers[:2] & 1)
    return np.cumsum(steps, axis=1, dtype=np.uint16), numbers[2:]


@pytest.fixture
def made():
    """Three slices of 50, 70 and 30 spots in a mixed order, one of them with a spot far outside."""
    rng = np.random.default_rng(0)
    slices = rng.permutation(np.repeat(["s10", "s2", HOSTILE], (50, 70, 30)))
    obs = pd.DataFrame({"slice": slices, "barcode": [f"b{i}{HOSTILE}" for i in range(150)], "modalities": "rna"})
    obs.index = obs["slice"] + ":" + obs["barcode"]
    obs["mosaic_domain"] = pd.Categorical(rng.choice(["0", "1", "10", "2"], 150), ["0", "1", "2", "10"])
    obs["consensus_spamosaic"] = obs["mosaic_domain"]
    colours = {f"{name}_colors": list(style.COLOURS[:4]) for name in ("mosaic_domain", "consensus_spamosaic")}
    obs["confidence_spamosaic"] = np.where(np.arange(150) % 7, rng.uniform(0.3, 1, 150), np.nan)
    obs["clinic"] = pd.Categorical(np.where(np.arange(150) % 5, HOSTILE, None))
    obs["age"] = rng.normal(40, 9, 150)
    spatial = rng.uniform((0, 100), (2000, 900), (150, 2))
    spatial[np.flatnonzero(slices == "s2")[0]] = 1e7
    return ad.AnnData(obs=obs, obsm={"spatial": spatial, "X_umap": rng.normal(0, 5, (150, 2))}, uns=colours)


@pytest.fixture
def values(made):
    """Two features of the measured slices, three of the imputed one."""
    rng = np.random.default_rng(1)
    rows = {name: np.flatnonzero(made.obs["slice"] == name) for name in ("s2", "s10", HOSTILE)}
    return {
        "s2": explorer.Part(rows["s2"], sparse.csr_matrix(rng.poisson(1.0, (70, 2))), pd.Index(["g1", "g2"]), False),
        "s10": explorer.Part(rows["s10"], rng.normal(0, 3, (50, 2)), pd.Index(["g2", "g1"]), False),
        HOSTILE: explorer.Part(rows[HOSTILE], rng.normal(5, 1, (30, 3)), pd.Index(["g1", HOSTILE, "g2"]), True),
    }


@pytest.fixture
def written(made, values, tmp_path):
    """The folder, and what it says of the run."""
    page = tmp_path / "page.html"
    page.write_text("page")
    scores = pd.DataFrame({"pearson_log": [0.5, np.nan], "better_than_mean": [True, False]}, index=["g1", "g2"])
    panels = [explorer.Panel("rna", "log", ["g1", "g2", HOSTILE], lambda _: list(values.values()), scores)]
    columns = explorer.columns(made, ["spamosaic"], [1], None, {"rna": pd.DataFrame(index=made.obs_names)})
    slices = {name: explorer.Slice(HOSTILE) for name in ("s2", "s10", HOSTILE)}
    explorer.write(tmp_path / "out", [page], made, columns, panels, slices)
    assert (tmp_path / "out/page.html").read_text() == "page"
    return tmp_path / "out", content(tmp_path / "out", "run")


def order_of(folder, run, made):
    """Rows of ``made`` in the order of the files, by slices and barcodes."""
    barcodes = json.loads(unpacked(content(folder, "barcodes")))
    slices = np.repeat([own["name"] for own in run["slices"]], [own["n"] for own in run["slices"]])
    return made.obs_names.get_indexer([f"{name}:{barcode}" for name, barcode in zip(slices, barcodes, strict=True)])


def test_every_spot_keeps_its_name_place_and_values(made, written):
    folder, run = written
    order = order_of(folder, run, made)
    assert sorted(order) == list(range(150))
    tissue, umap = positions(folder, 150)
    start = 0
    for own in run["slices"]:
        rows = order[start : start + own["n"]]
        assert (made.obs["slice"].iloc[rows] == own["name"]).all()
        placed = tissue[0, start : start + own["n"]] != 65535
        assert (~placed).sum() == own["unplaced"] == (own["name"] == "s2")
        found = (2 * tissue[:, start : start + own["n"]].T / 16383 - 1) * own["half"] + own["centre"]
        np.testing.assert_allclose(found[placed], made.obsm["spatial"][rows][placed], atol=own["half"] / 16383 * 1.01)
        start += own["n"]
    found = umap.T - umap.T.mean(axis=0)
    expected = made.obsm["X_umap"][order] - made.obsm["X_umap"].mean(axis=0)
    scale = (found * expected).sum() / (expected**2).sum()
    np.testing.assert_allclose(found / scale, expected, atol=1.1 / scale)
    by_key = {column["key"]: column for column in run["columns"]}
    domain = by_key["domain"]
    assert domain["labels"] == ["0", "1", "2", "10"]
    assert len(set(domain["colours"])) == 4
    assert [domain["labels"][code] for code in codes(folder, run, domain["at"])] == list(
        made.obs["mosaic_domain"].iloc[order]
    )
    confidence = by_key["confidence"]
    low, high, _ = confidence["span"]
    found = codes(folder, run, confidence["at"]).astype(float)
    found = np.where(found == 255, np.nan, low + (high - low) * found / 254)
    expected = made.obs["confidence_spamosaic"].to_numpy()[order]
    np.testing.assert_allclose(found, np.minimum(expected, high), atol=(high - low) / 254)
    assert by_key["obs.clinic"]["labels"] == [HOSTILE]
    assert (codes(folder, run, by_key["obs.clinic"]["at"]) == 255).sum() == made.obs["clinic"].isna().sum()
    assert "span" in by_key["obs.age"]


def test_a_feature_has_what_was_measured_and_what_was_imputed(made, values, written):
    folder, run = written
    order = order_of(folder, run, made)
    (panel,) = run["panels"]
    assert panel["sources"] == ["measured", "measured", "imputed"]
    for feature in panel["features"]:
        found = codes(folder, run, feature["at"])
        spot = np.empty(150, dtype=np.uint8)
        spot[order] = found
        for part in values.values():
            if feature["name"] not in part.features:
                assert (spot[part.rows] == 255).all()
                continue
            expected = np.asarray(sparse.csr_matrix(part.values).toarray())[:, part.features.get_loc(feature["name"])]
            low, high, more = feature["imputed" if part.imputed else "measured"]
            step = (high - low) / 254
            np.testing.assert_allclose(low + spot[part.rows] * step, np.minimum(expected, high), atol=step)
            assert more or expected.max() <= high + step
    first, second, third = panel["features"]
    assert (first["pearson"], first["trusted"]) == (0.5, True)
    assert (second["pearson"], second["trusted"]) == (None, False)
    assert "trusted" not in third
    assert "sources" not in first
    assert third["sources"] == [None, None, "imputed"]
    assert "measured" not in third


def test_what_a_slice_measured_takes_the_place_of_what_was_imputed(made, tmp_path):
    """Of a modality that a slice measured with a smaller panel, the rest may be imputed."""
    rows = np.flatnonzero(made.obs["slice"] == "s10")
    measured = explorer.Part(rows, np.full((50, 1), 3.0), pd.Index(["g1"]), False)
    imputed = explorer.Part(rows, np.tile([7.0, 9.0], (50, 1)), pd.Index(["g1", "g2"]), True)
    slices = {name: explorer.Slice() for name in ("s2", "s10", HOSTILE)}
    columns = [explorer.Column("domain", "Domain", "Domains", made.obs["mosaic_domain"])]
    panel = explorer.Panel("rna", "log", ["g1", "g2"], lambda _: [measured, imputed])
    explorer.write(tmp_path, [], made, columns, [panel], slices)
    (told,) = content(tmp_path, "run")["panels"]
    assert told["sources"] == [None, "measured", None]
    first, second = told["features"]
    assert "sources" not in first
    assert first["measured"][0] == 3
    assert second["sources"] == [None, "imputed", None]
    assert second["imputed"][0] == 9


def test_small_panels_are_shown_whole_and_of_large_ones_what_is_worth_a_look():
    small = pd.Index([f"g{number}" for number in range(explorer.SMALL_PANEL)])
    large = small.append(pd.Index(["last", "g10b"]))
    markers = [pd.Index(["g7"]), pd.Index(["g9", "gone"])]
    assert explorer.shown_features(small, "rna", ["g1"], [], []) == list(small)
    assert explorer.shown_features(large, "rna", ["g10", "g2"], markers, ["last"]) == ["g2", "g7", "g9", "g10", "last"]
    # Of chromatin the integration takes most peaks.
    assert explorer.shown_features(large, "epigenome", ["g10", "g2"], markers, ["last"]) == ["g7", "g9", "last"]
    assert len(explorer.shown_features(large, "epigenome", [], [], "all")) == len(large)


def test_a_feature_asked_for_that_no_modality_has_is_a_fault():
    available = {"rna": pd.Index(["CD3E"]), "adt": pd.Index(["CD3"])}
    explorer.check_asked(["CD3", "CD3E"], available)
    explorer.check_asked("all", available)
    with pytest.raises(InputError, match=r"explorer.features: no modality has cd3, x\n"):
        explorer.check_asked(["cd3", "CD3E", "x"], available)


def test_features_that_a_panel_lacks_share_the_scale_of_those_that_it_measured(tmp_path):
    rng = np.random.default_rng(0)

    def written(folder, name, values, features, layer):
        obs = pd.DataFrame({"slice": name}, index=[f"{name}:{number}" for number in range(len(values))])
        layers = {layer: sparse.csr_matrix(values.astype(float))}
        path = tmp_path / folder / f"{name}.rna.h5ad"
        path.parent.mkdir(exist_ok=True)
        ad.AnnData(obs=obs, var=pd.DataFrame(index=features), layers=layers).write_h5ad(path)
        return path

    # The panel of s2 lacks g9, and has a tenth of the depth of s1, from which g9 is imputed. Quality control left its
    # last spot without RNA.
    names = [f"g{number}" for number in range(10)]
    whole, panel = np.full((20, 10), 100), rng.permutation(np.full((20, 9), 10))
    counts = [written("qc", "s1", whole, names, "counts"), written("qc", "s2", panel[:-1], names[:9], "counts")]
    made = np.linspace(50, 150, 20)[:, None]
    imputed = [written("imputed", "s2", made, ["g9"], "imputed"), written("imputed", "s1", made[:, :0], [], "imputed")]

    def per_10000(adata):
        adata.X = sparse.csr_matrix(adata.layers["counts"].multiply(1e4 / adata.layers["counts"].sum(axis=1)))
        return adata

    panel_lacks, measured_all = explorer.slice_readers(imputed, "layers/imputed", per_10000, counts)
    assert list(measured_all()) == []
    (shown,) = panel_lacks()
    assert shown.obs_names.tolist() == [f"s2:{number}" for number in range(19)]
    assert shown.var_names.tolist() == ["g9"]
    np.testing.assert_allclose(shown.X.toarray(), 1e4 * made[:-1] / (made[:-1] + 900))


def test_imputed_slices_and_measured_ones_become_parts_of_a_panel():
    counts = sparse.csr_matrix([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0], [3.0, 0.0, 1.0]])
    spots = pd.Index(["s1:a", "s1:b", "s2:a", "s2:b", "s2:c"])
    var = pd.DataFrame({"pearson_log": 0.2, "better_than_mean": True}, index=["x", "y", "z"])
    imputed = ad.AnnData(obs=pd.DataFrame(index=["s2:a", "s2:b", "s2:c"]), var=var, layers={"imputed": counts})
    nothing = ad.AnnData(obs=imputed.obs, layers={})  # with `features: union`, a slice that measured all features
    (shown,) = explorer.imputed_counts([nothing, imputed])
    assert list(shown.obs_names) == ["s2:a", "s2:c"]  # nothing can scale a spot without counts
    ready = imputed.copy()  # of kind `features`, whose values may be below zero
    ready.layers["imputed"] = -counts
    assert [list(own.obs_names) for own in explorer.imputed_counts([ready])] == [["s2:a", "s2:c"]]
    measured = ad.AnnData(np.ones((2, 2)), obs=pd.DataFrame(index=spots[:2]), var=pd.DataFrame(index=["z", "w"]))
    # In blocks of spots, and of one slice without any.
    slices = [lambda: [measured[:1], measured[1:]]], [lambda: [], lambda: [shown]]
    panel = explorer.panel("rna", "log", ["x", "z"], spots, *slices, var)
    parts = panel.parts(["x", "z"])
    assert [list(part.rows) for part in parts] == [[0, 1], [2, 4]]
    assert [list(part.features) for part in parts] == [["z"], ["x", "z"]]
    assert parts[1].values.toarray().tolist() == [[0, 1], [3, 1]]
    assert panel.scores.at["x", "better_than_mean"]
    assert [list(part.features) for part in panel.parts(["x"])] == [[], ["x"]]


def test_of_many_spots_some_features_are_in_memory_at_a_time(made, values, tmp_path, monkeypatch):
    names, asked = ["g1", "g2", HOSTILE], []

    def parts(features):
        asked.append(list(features))
        assert len(features) * made.n_obs <= explorer._GROUP_VALUES
        # No more than was asked for.
        return [
            part._replace(values=sparse.csr_matrix(part.values)[:, kept], features=part.features[kept])
            for part in values.values()
            for kept in [np.flatnonzero(part.features.isin(features))]
        ]

    columns = [explorer.Column("domain", "Domain", "Domains", made.obs["mosaic_domain"])]
    slices = {name: explorer.Slice() for name in ("s2", "s10", HOSTILE)}
    panel = explorer.Panel("rna", "log", names, parts)
    for folder, most in (("whole", explorer._GROUP_VALUES), ("parts", 2 * made.n_obs)):
        monkeypatch.setattr(explorer, "_GROUP_VALUES", most)
        explorer.write(tmp_path / folder, [], made, columns, [panel], slices)
    assert asked == [names, names[:2], names[2:]]
    for path in (tmp_path / "whole").rglob("*.js"):
        assert (tmp_path / "parts" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("levels", [3, 254, 255, 400])
def test_labels_beyond_a_byte_share_the_last_code(made, tmp_path, levels):
    run = ad.concat([made] * 4, index_unique="-")
    run.obs["mosaic_domain"] = np.arange(run.n_obs) % levels
    run.obs["mosaic_domain"] = run.obs["mosaic_domain"].astype(str)
    column = explorer.Column("domain", "Domain", "Domains", run.obs["mosaic_domain"])
    slices = {name: explorer.Slice() for name in ("s2", "s10", HOSTILE)}
    explorer.write(tmp_path, [], run, [column], [], slices)
    told = content(tmp_path, "run")
    labels = told["columns"][0]["labels"]
    found = codes(tmp_path, told, told["columns"][0]["at"])
    assert len(labels) == min(levels, 254)
    assert set(found) == set(range(len(labels)))
    assert (labels[-1] == f"{levels - 253} others") == (levels > 254)


@pytest.mark.parametrize(
    ("values", "span", "codes"),
    [
        ([0.0, 127.0, 254.0], [0, 254, False], [0, 127, 254]),
        ([5.0, np.nan, 5.0], [5, 5, False], [0, 255, 0]),
        ([np.nan, np.inf], [0, 0, False], [255, 255]),
        ([0.0] * 2000 + [1.0], [0, 1, False], [0] * 2000 + [254]),
        (list(range(1000)) + [1e6] * 1, [0, 999, True], None),
    ],
)
def test_numbers_become_steps_of_a_byte(values, span, codes):
    found, told = explorer.quantise(np.array(values))
    assert told == span
    if codes:
        assert found.tolist() == codes
    else:
        assert found[-1] == 254


def test_columns_are_those_of_the_run_with_the_colours_of_the_figures(made):
    obs = made.obs
    obs["truth of it"] = np.where(obs["mosaic_domain"] == "0", "cortex", "medulla")
    for method in ("spamosaic", "mofa"):
        for name in (f"consensus_{method}", f"domain_{method}_1", f"domain_{method}_2"):
            obs[name] = obs["mosaic_domain"]
            made.uns[f"{name}_colors"] = [f"#{name.encode().hex()[-5:]}{number}" for number in range(4)]
    counts = pd.DataFrame({"total_counts": np.arange(150.0), "mito_percent": np.nan}, index=obs.index[::-1])
    found = {
        column.key: column
        for column in explorer.columns(made, ["spamosaic", "mofa"], [1, 2], "truth of it", {"rna": counts})
    }
    assert list(found) == [
        *("domain", "domain_spamosaic_1", "domain_spamosaic_2", "domain_mofa_1", "domain_mofa_2"),
        *("consensus_spamosaic", "consensus_mofa", "confidence", "truth", "slice", "modalities"),
        *("obs.clinic", "obs.age", "total_counts.rna"),
    ]
    assert found["domain"].colours == dict(zip(["0", "1", "2", "10"], style.COLOURS[:4], strict=True))
    for name in ("consensus_mofa", "domain_spamosaic_2"):
        assert list(found[name].colours.values()) == made.uns[f"{name}_colors"]
    assert found["truth"].colours == style.palette(["cortex", "medulla"])
    assert found["total_counts.rna"].values.tolist() == list(np.arange(150.0)[::-1])


def test_named_domains_keep_the_names_order_and_colours_of_the_result(made, tmp_path):
    names = {"0": "medulla", "1": "10", "10": "cortex", "2": "2"}
    made.obs["mosaic_domain"] = pd.Categorical(made.obs["mosaic_domain"].map(names), ["medulla", "10", "2", "cortex"])
    made.obs["consensus_spamosaic"] = pd.Categorical(made.obs["mosaic_domain"], ["10", "cortex", "medulla", "2"])
    made.uns["mosaic_domain_colors"] = np.array(["#000001", "#000002", "#000003", "#000004"], dtype=object)
    made.uns["consensus_spamosaic_colors"] = np.array(["#000005", "#000004", "#000001", "#000003"], dtype=object)
    columns = explorer.columns(made, ["spamosaic"], [1], None, {})
    explorer.write(tmp_path, [], made, columns, [], {name: explorer.Slice() for name in ("s2", "s10", HOSTILE)})
    told = content(tmp_path, "run")
    domain, consensus = told["columns"][:2]
    assert domain["labels"] == ["medulla", "10", "2", "cortex"]
    assert domain["colours"] == ["#000001", "#000002", "#000003", "#000004"]
    assert consensus["labels"] == ["10", "cortex", "medulla", "2"]
    assert consensus["colours"] == ["#000005", "#000004", "#000001", "#000003"]


def test_the_image_of_a_slice_lies_under_its_spots(tmp_path):
    """Red left of x = 100, blue right of it, in an image of half a pixel per unit; the tissue reaches beyond it."""
    places = np.array([(x, y) for x in range(0, 401, 20) for y in range(-100, 201, 20)], dtype=float)
    obs = pd.DataFrame(
        {"slice": "s1", "barcode": "b", "mosaic_domain": "0"}, index=[f"{i}" for i in range(len(places))]
    )
    run = ad.AnnData(obs=obs, obsm={"spatial": places, "X_umap": places})
    image = np.zeros((100, 150, 3), dtype=np.uint8)
    image[:, :50, 0] = image[:, 50:, 2] = 255
    domain = explorer.Column("domain", "Domain", "Domains", obs["mosaic_domain"])
    explorer.write(tmp_path, [], run, [domain], [], {"s1": explorer.Slice("", Frame(image, 300.0, 200.0))})
    (told,) = content(tmp_path, "run")["slices"]
    assert told["hasImage"]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content(tmp_path, "image.0"))))).astype(int)
    assert shown.shape[0] == shown.shape[1]

    def colour_at(x, y):
        place = (np.array([x, y]) - told["centre"] + told["half"]) / (2 * told["half"]) * shown.shape[0]
        return shown[int(place[1]), int(place[0])]

    for (x, y), expected in (
        ((80, 100), (255, 0, 0)),
        ((120, 100), (0, 0, 255)),
        ((280, 190), (0, 0, 255)),
        ((350, 100), (255, 255, 255)),
        ((100, -50), (255, 255, 255)),
    ):
        np.testing.assert_allclose(colour_at(x, y), expected, atol=40)
