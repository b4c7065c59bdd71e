"""The explorer in a browser: what it draws is what the run found, and what a reader does shows in all panels."""

import csv
import re
from urllib.parse import unquote

import browser
import matplotlib as mpl
import numpy as np
import pytest
from explorer_page import ExplorerPage
from explorer_sizes import PAGE, made_explorer, made_run, with_colours

from mosaic.figures import explorer, style
from mosaic.frame import Frame

pytestmark = pytest.mark.slow

SCRIPT = "</script><img src=x onerror=document.title='OWNED'>"
SLICES = [SCRIPT, "Ωж日\u202e", "x" * 100, *(f"s{number}" for number in range(4, 13))]
DOMAINS = [f"{number}" for number in range(28)] + [SCRIPT, 'new\nline, "quoted"']
FEATURES = ["g0", "g1", SCRIPT, "CD3E", "=1+1", "", "a,b", "doubted"]
IMPUTED = SLICES[-1]
N_SPOTS = 2400
PITCH = 100.0


@pytest.fixture(scope="module")
def run():
    """Twelve slices of 200 spots on a grid, 20 to a row, with 30 domains."""
    made = made_run(N_SPOTS, SLICES, DOMAINS)
    place = np.arange(N_SPOTS) % 200
    made.obsm["spatial"] = np.column_stack([place % 20, place // 20]) * PITCH
    # Every domain in every slice, in columns of spots that a lasso can part.
    made.obs["mosaic_domain"] = np.array(DOMAINS)[(place % 20 + 3 * (place // 20)) % 30]
    odd = np.unique(made.obs["mosaic_domain"], return_inverse=True)[1] % 2
    made.obs["consensus_spamosaic"] = odd.astype(str)
    with_colours(made)
    return made


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    """The explorer's folder, and its panel of features."""
    folder = tmp_path_factory.mktemp("explorer")
    (panel,) = made_explorer(folder, run, FEATURES, imputed=[IMPUTED])
    return folder, panel


@pytest.fixture(scope="module")
def chromium():
    with browser.launched(*browser.SOFTWARE_GL) as found:
        yield found


@pytest.fixture(scope="module")
def open_page(chromium, written):
    """Opener of the explorer; nothing may have gone wrong on any page by the end."""
    pages = []

    def open_one(address="", width=1400, **options):
        pages.append(ExplorerPage(chromium, written[0], address, width, **options))
        return pages[-1]

    yield open_one
    assert [page.faults for page in pages] == [[]] * len(pages)


def rows_of(run, name):
    return np.flatnonzero(run.obs["slice"] == name)


def on_tissue(run, rows):
    """Places of spots of a slice in its panel: a square around them, with the distance between them as a margin."""
    low, high = run.obsm["spatial"].min(axis=0) - PITCH, run.obsm["spatial"].max(axis=0) + PITCH
    return (run.obsm["spatial"][rows] - (low + high) / 2) / ((high - low).max() / 2)


def in_umap(run):
    """Places of all spots in the UMAP's panel."""
    umap = run.obsm["X_umap"]
    margin = np.ptp(umap, axis=0).max() / 40
    low, high = umap.min(axis=0) - margin, umap.max(axis=0) + margin
    return (umap - (low + high) / 2) / ((high - low).max() / 2) * (1, -1)


def rgb(colours):
    return np.array([[round(255 * channel) for channel in mpl.colors.to_rgb(colour)] for colour in colours])


def domain_rgb(run, rows):
    palette = style.palette(run.obs["mosaic_domain"])
    return rgb([palette[name] for name in run.obs["mosaic_domain"].iloc[rows]])


def test_all_slices_and_the_latent_space_show_the_domains(run, open_page):
    shown = open_page()
    assert shown.page.inner_text("h1") == "2,400 spots of 12 slices: 30 domains"
    assert shown.page.locator(".panel").count() == 13
    titles = [title.strip() for title in shown.page.locator(".panel h2").all_text_contents()]
    assert titles == ["UMAP of the latent space", *SLICES]
    assert "OWNED" not in shown.page.title()
    assert shown.page.locator("img").count() == 0
    labels = shown.page.locator(".legend li label span:nth-of-type(2)").all_text_contents()
    assert labels == sorted(DOMAINS, key=style.natural)
    for number in (1, 5, 12):
        rows = rows_of(run, SLICES[number - 1])
        np.testing.assert_allclose(shown.colours(number, on_tissue(run, rows)), domain_rgb(run, rows), atol=1)
        # Between the rows of spots, and in the corner beyond the tissue, nothing is drawn.
        empty = on_tissue(run, rows[:150]) + PITCH / 2 / (np.ptp(run.obsm["spatial"][:, 0]) / 2 + PITCH)
        assert (shown.colours(number, [*empty, (-0.99, -0.99)]) == 255).all()
    # In the UMAP those spots that no other covers.
    places = in_umap(run)
    apart = np.array([(np.abs(places - place).max(axis=1) < 0.03).sum() == 1 for place in places])
    assert apart.sum() > 30
    found = shown.colours(0, places[apart])
    np.testing.assert_allclose(found, domain_rgb(run, np.flatnonzero(apart)), atol=60)
    # Spots between whose pixels the centre lies are drawn paler at their edges, and no other colour is nearer.
    own = domain_rgb(run, np.flatnonzero(apart))
    every = rgb(style.palette(DOMAINS).values())
    nearest = np.abs(found[:, None] - every[None]).sum(axis=2).min(axis=1)
    assert (np.abs(found - own).sum(axis=1) <= nearest).mean() > 0.9


def test_a_feature_is_found_and_drawn_where_measured_and_where_imputed(run, written, open_page):
    shown = open_page()
    shown.find("doubt")
    values = {}
    for part in written[1].parts(written[1].features):
        values[run.obs["slice"].iloc[part.rows[0]]] = part.rows, part.values[:, -1].toarray().ravel(), part.imputed
    viridis = mpl.colormaps["viridis"]
    for imputed, number in ((False, 2), (True, 12)):
        pooled = np.concatenate([own for _, own, is_imputed in values.values() if is_imputed == imputed])
        low, high = pooled.min(), explorer.quantise(pooled)[1][1]
        rows, own, _ = values[SLICES[number - 1]]
        expected = 255 * viridis(np.clip((own - low) / (high - low), 0, 1))[:, :3]
        np.testing.assert_allclose(shown.colours(number, on_tissue(run, rows)), expected, atol=16)
    captions = shown.page.locator(".panel .caption").all_text_contents()
    assert captions[1].endswith("measured")
    assert "imputed: ⚠ don't trust: no better than the mean, held-out r 0.01" in captions[12]
    assert shown.page.locator(".panel.doubtful").count() == 1
    with shown.drawing():
        shown.page.select_option("#sources select", "measured")
    grey = rgb([style.NO_LABEL])
    np.testing.assert_allclose(
        shown.colours(12, on_tissue(run, rows_of(run, IMPUTED))), np.repeat(grey, 200, 0), atol=1
    )
    again = open_page("#" + shown.page.evaluate("location.hash").lstrip("#"))
    np.testing.assert_array_equal(again.pixels(12), shown.pixels(12))
    # A name that is markup, and one that is empty, are found and shown as text.
    shown.find("onerror=document")
    assert SCRIPT in shown.page.text_content("#legends")
    shown.page.fill("#search input", "no such feature")
    assert "Nothing by this name" in shown.page.inner_text("#found")


def test_a_lasso_selects_in_all_panels_and_its_link_shows_the_same(run, open_page):
    shown = open_page()
    rows = rows_of(run, SLICES[1])
    places = on_tissue(run, rows)
    middle = places[20 * 5 + 10] - 0.02
    inside = rows[(places < middle).all(axis=1)]
    assert 0 < len(inside) < 200
    shown.lasso(2, (-0.97, -0.97), tuple(middle))
    assert shown.page.inner_text("#count") == f"{len(inside)} of 2,400 spots"
    domains = run.obs["mosaic_domain"].iloc[inside].astype(str)
    table = {cells[0].strip(): cells[1:] for cells in table_of(shown, "#counts")}
    assert {name.strip() for name in domains} | {"Domain", "all"} == set(table)
    for name, count in domains.value_counts().items():
        assert table[name.strip()] == ["0", str(count), *["0"] * 10, str(count)]
    # The selected keep their colour, on the tissue and in the UMAP; all others are weak.
    others = np.setdiff1d(rows, inside)
    np.testing.assert_allclose(shown.colours(2, on_tissue(run, inside)), domain_rgb(run, inside), atol=1)
    weak = 255 - (255 - domain_rgb(run, others)) * 0.12
    np.testing.assert_allclose(shown.colours(2, on_tissue(run, others)), weak, atol=3)
    np.testing.assert_allclose(
        shown.colours(7, on_tissue(run, rows_of(run, SLICES[6]))),
        255 - (255 - domain_rgb(run, rows_of(run, SLICES[6]))) * 0.12,
        atol=3,
    )
    hash_ = shown.page.evaluate("location.hash")
    again = open_page(hash_)
    assert again.page.inner_text("#count") == f"{len(inside)} of 2,400 spots"
    for panel in (0, 2):
        np.testing.assert_array_equal(again.pixels(panel), shown.pixels(panel))
    with shown.page.expect_download() as download:
        shown.page.click("#csv")
    with open(download.value.path(), newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["spot"] for row in sorted(read, key=lambda row: row["spot"])] == sorted(run.obs_names[inside])
    for row in read:
        spot = run.obs.loc[row["spot"]]
        assert (row["slice"], row["barcode"], row["Domain"]) == (SLICES[1], spot["barcode"], spot["mosaic_domain"])
        assert abs(float(row["Confidence of spamosaic"].removeprefix("≥ ")) - spot["confidence_spamosaic"]) < 0.01
    with shown.drawing():
        shown.page.keyboard.press("Escape")
    np.testing.assert_allclose(shown.colours(2, places), domain_rgb(run, rows), atol=1)
    assert "lasso" not in shown.page.evaluate("location.hash")


def table_of(shown, place):
    return [row.locator("th, td").all_text_contents() for row in shown.page.locator(f"{place} tr").all()]


def test_the_legend_hides_domains_and_selects_them_and_ranks_what_marks_them(run, written, open_page):
    shown = open_page()
    ordered = sorted(DOMAINS, key=style.natural)
    hidden, chosen = ordered[3], ordered[5]
    with shown.drawing():
        shown.page.locator(".legend input").nth(3).focus()
        shown.page.keyboard.press("Space")
    rows = rows_of(run, SLICES[0])
    gone = (run.obs["mosaic_domain"].iloc[rows] == hidden).to_numpy()
    assert gone.any()
    found = shown.colours(1, on_tissue(run, rows))
    assert (found[gone] == 255).all()
    np.testing.assert_allclose(found[~gone], domain_rgb(run, rows[~gone]), atol=1)
    # Nobody sees what is hidden, and a lasso leaves it out.
    shown.lasso(1, (-0.99, -0.99), (0.99, 0.99))
    assert shown.page.inner_text("#count") == f"{(~gone).sum()} of 2,400 spots"
    with shown.drawing():
        shown.page.locator(".legend li button").nth(5).click()
    assert shown.page.inner_text("#count") == f"{(run.obs['mosaic_domain'] == chosen).sum()} of 2,400 spots"
    # Seven spots a slice are too few to rank by.
    shown.page.get_by_text("No slice has ten measured spots inside").wait_for()
    with shown.drawing():
        shown.page.select_option("#column", "consensus_spamosaic")
    with shown.drawing():
        shown.page.get_by_title("Select the spots of 1", exact=True).first.click()
    shown.page.wait_for_selector("#markers tbody tr")
    best = table_of(shown, "#markers")[1]
    inside = (run.obs["consensus_spamosaic"] == "1").to_numpy() & (run.obs["mosaic_domain"] != hidden).to_numpy()
    assert best[0].removesuffix(" rna") == marker(run, written[1], inside, shown)
    with shown.drawing():
        shown.page.locator("#markers button").first.click()
    assert shown.page.text_content("#column option:checked") == f"{best[0].removesuffix(' rna')} (rna)"
    assert hidden_in(shown) == [3]
    with shown.drawing():
        shown.page.get_by_text("show all", exact=True).click()
    assert hidden_in(shown) == []


def hidden_in(shown):
    boxes = shown.page.locator(".legend input").all()
    return [number for number, box in enumerate(boxes) if not box.is_checked()]


def marker(run, panel, inside, shown):
    """The first feature by AUROC, by counting pairs; the page must show that number."""
    score = {}
    for number, name in enumerate(FEATURES):
        each = []
        for part in panel.parts(panel.features):
            if not part.imputed and min(inside[part.rows].sum(), (~inside[part.rows]).sum()) >= 10:
                values = part.values[:, number].toarray().ravel()
                ours, theirs = values[inside[part.rows], None], values[None, ~inside[part.rows]]
                each.append(((ours > theirs) + 0.5 * (ours == theirs)).mean())
        score[name or "(no name)"] = np.mean(each)
    for name, value in ((row[0].removesuffix(" rna"), row[1]) for row in table_of(shown, "#markers")[1:]):
        assert abs(float(value) - score[name]) < 0.0006
    return max(score, key=score.get)


def test_panels_zoom_and_point_by_mouse_and_keyboard_and_fade(run, open_page):
    shown = open_page()
    rows = rows_of(run, SLICES[0])
    places = on_tissue(run, rows)
    canvas = shown.page.locator("canvas").nth(1)
    canvas.focus()
    for key in ("+", "+", "ArrowLeft", "ArrowUp"):
        shown.page.keyboard.press(key)
    shown.page.wait_for_function("location.hash.includes('zoom')")
    _, x, y, distance = map(
        float, re.search(r"zoom=([^&]+)", unquote(shown.page.evaluate("location.hash")))[1].split(",")
    )
    assert distance == pytest.approx(1 / 1.5**2, abs=0.01)
    seen = (places - (x, -y)) / distance
    on_screen = (np.abs(seen) < 0.95).all(axis=1)
    assert 20 < on_screen.sum() < 180
    np.testing.assert_allclose(shown.colours(1, seen[on_screen]), domain_rgb(run, rows[on_screen]), atol=1)
    # The others stay as they were, and a link shows the same.
    np.testing.assert_allclose(shown.colours(2, places), domain_rgb(run, rows_of(run, SLICES[1])), atol=1)
    again = open_page(shown.page.evaluate("location.hash"))
    assert np.abs(again.pixels(1) - shown.pixels(1)).mean() < 1  # the address rounds
    shown.page.click("#whole")
    shown.page.wait_for_function("!location.hash.includes('zoom')")

    # Point at a spot: its description, and cross hairs at the same spot in the UMAP.
    box = canvas.bounding_box()
    spot = 20 * 4 + 7
    before = shown.pixels(0)
    shown.page.mouse.move(
        *(box[axis] + (at + 1) / 2 * box["width"] for axis, at in zip("xy", places[spot], strict=True))
    )
    shown.page.wait_for_function("document.querySelector('#hover').textContent.includes('Domain')")
    name = run.obs["mosaic_domain"].iloc[rows[spot]]
    assert shown.page.text_content("#hover") == f"{SLICES[0]} · Domain {name}"
    for _ in range(50):  # a busy machine draws late
        shown.page.wait_for_timeout(200)
        changed = (shown.pixels(0) != before).any(axis=2)
        if changed.any():
            break
    at = (in_umap(run)[rows[spot]] + 1) / 2 * len(changed)
    np.testing.assert_allclose([changed.mean(axis=0).argmax(), changed.mean(axis=1).argmax()], at, atol=2)

    with shown.drawing():
        shown.page.check("#faint input")
    confidence = run.obs["confidence_spamosaic"].to_numpy()[rows]
    darkness = (255 - shown.colours(1, places)).sum(axis=1) / (255 - domain_rgb(run, rows)).sum(axis=1)
    assert np.corrcoef(confidence, darkness)[0, 1] > 0.95


def test_a_phone_shows_all_below_one_another_and_fingers_zoom_and_select(run, open_page):
    shown = open_page(width=380, has_touch=True)
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 380
    canvases = shown.page.locator("canvas")
    assert len({box.bounding_box()["x"] for box in canvases.all()}) == 1
    rows = rows_of(run, SLICES[0])
    places = on_tissue(run, rows)
    np.testing.assert_allclose(shown.colours(1, places), domain_rgb(run, rows), atol=1)

    canvases.nth(1).scroll_into_view_if_needed()
    box = canvases.nth(1).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    shown.touch(*([(x + side * way, y) for way in range(40, 110, 10)] for side in (-1, 1)))
    shown.page.wait_for_function("+location.hash.split(',')[3] < 0.5")
    _, *at, distance = map(float, re.search(r"zoom=([^&]+)", shown.page.evaluate("location.hash"))[1].split(","))
    assert distance == pytest.approx(0.4, abs=0.05)
    np.testing.assert_allclose(at, 0, atol=0.05)
    shown.page.click("#whole")
    shown.page.click("#lasso")
    canvases.nth(1).scroll_into_view_if_needed()
    box = canvases.nth(1).bounding_box()
    corners = [(-0.6, -0.6), (-0.58, -0.6), (0.3, -0.6), (0.3, 0.1), (-0.6, 0.1)]
    way = [tuple(box[axis] + (at + 1) / 2 * box["width"] for axis, at in zip("xy", at, strict=True)) for at in corners]
    with shown.drawing():
        shown.touch(way)
    inside = ((places > (-0.6, -0.6)) & (places < (0.3, 0.1))).all(axis=1).sum()
    found = int(shown.page.inner_text("#count").split(" ")[0])
    assert abs(found - inside) <= 4  # the page draws what the finger drew


def test_the_tissue_lies_behind_its_spots_and_can_be_taken_away(chromium, tmp_path):
    """A picture whose left half is green: behind the spots of the left half, also after a zoom."""
    made = made_run(100, ["s1", "s2"], ["0", "1"])
    made.obsm["spatial"] = (np.column_stack(np.divmod(np.arange(100) % 50, 5)[::-1]) + 1) * PITCH
    image = np.full((110, 60, 3), 200, dtype=np.uint8)
    image[:, :25] = 0, 120, 0
    slices = {"s1": explorer.Slice("", Frame(image, 600.0, 1100.0)), "s2": explorer.Slice()}
    columns = explorer.columns(made, ["spamosaic"], [1234], None, {})
    explorer.write(tmp_path, [PAGE / "index.html", PAGE / "explorer.js"], made, columns, [], slices)
    shown = ExplorerPage(chromium, tmp_path)
    shown.page.wait_for_function("+document.body.dataset.drawn > 1")
    rows = rows_of(made, "s1")
    places = on_tissue(made, rows)
    between = places[:-5].copy()
    between[:, 1] += PITCH / 2 / (np.ptp(made.obsm["spatial"][:, 1]) / 2 + PITCH)
    left = made.obsm["spatial"][rows[:-5], 0] < 250
    below = np.where(left[:, None], (0, 120, 0), (200, 200, 200))
    np.testing.assert_allclose(shown.colours(1, between), below, atol=12)
    np.testing.assert_allclose(shown.colours(1, places), domain_rgb(made, rows), atol=1)
    assert (shown.colours(2, between) == 255).all()
    canvas = shown.page.locator("canvas").nth(1)
    canvas.focus()
    shown.page.keyboard.press("+")
    shown.page.wait_for_function("location.hash.includes('zoom')")
    seen = np.abs(between * 1.5).max(axis=1) < 0.95
    np.testing.assert_allclose(shown.colours(1, between[seen] * 1.5), below[seen], atol=12)
    with shown.drawing():
        shown.page.uncheck("#image input")
    assert (shown.colours(1, between[seen] * 1.5) == 255).all()
    assert "image=0" in shown.page.evaluate("location.hash")
    assert shown.faults == []


def test_what_is_missing_is_told(written, chromium, tmp_path):
    (tmp_path / "data").mkdir()
    for path in (*written[0].glob("*.*"), *written[0].glob("data/*.js")):
        if path.name != "spots.js":
            (tmp_path / path.relative_to(written[0])).write_bytes(path.read_bytes())
    page = chromium.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_selector("#fault:visible")
    assert page.inner_text("#fault") == "The file data/spots.js is missing: copy the whole folder."


def test_without_webgl_the_page_says_so(written, chromium):
    flags = [*browser.QUIET, "--disable-gpu", "--disable-3d-apis"]
    plain = chromium.browser_type.launch(executable_path=browser.chromium_or_skip(), args=flags)
    page = plain.new_page()
    page.goto((written[0] / "index.html").as_uri())
    page.wait_for_selector("#fault:visible")
    assert "no WebGL" in page.inner_text("#fault")
    plain.close()
