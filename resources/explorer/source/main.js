// The page: loads the run, makes the panels, and shows what the view says.
import { coloursOf, FULL, HIDDEN, levelOf, WEAK } from "./colours.js";
import { $, fillColumns, fillCounts, fillMarkers, labelLegend, listenToSearch, make, numberLegend, trustOf } from "./controls.js";
import { loadBarcodes, loadCodes, loadRun, loadSpots, MISSING, sliceOf, sourceIn, textOf } from "./data.js";
import { makeRenderer, Panel } from "./panels.js";
import { countsOf, csvOf, markersOf, maskOf, simplified } from "./selection.js";
import { fromHash, toHash } from "./view.js";

// Up to so many bytes of features, markers are ranked at once; more are a button.
const RANKED_AT_ONCE = 30e6;

function fail(error) {
  const place = $("#fault");
  place.hidden = false;
  place.textContent = error.message;
  throw error;
}

async function start() {
  if (!("DecompressionStream" in window)) fail(new Error("This browser is too old for the explorer: use one from 2023 or later."));
  const renderer = makeRenderer();
  if (!renderer) fail(new Error("This browser has no WebGL, so it can't draw the spots. Turn on hardware acceleration in its settings, or open this folder in another browser."));
  const run = await loadRun();
  const page = new Page(run, await loadSpots(), renderer);
  await page.open();
}

class Page {
  constructor(run, spots, renderer) {
    Object.assign(this, { run, spots, renderer });
    this.view = fromHash(location.hash, run);
    this.ranking = 0;
    this.busy = true; // until the first picture
  }

  async open() {
    const { run, spots } = this;
    const domain = run.byKey.get("domain");
    const many = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
    $("h1").textContent = `${many(run.n, "spot")} of ${many(run.slices.length, "slice")}: ${many(domain.labels.length, "domain")}`;
    document.title = `Explorer: ${$("h1").textContent}`;
    this.domains = await loadCodes(domain);
    this.#makePanels(spots);
    this.#listen();
    await this.#compute();
    for (const panel of this.panels) panel.open(this.colours, this.codes, this.levels);
    this.#applyCameras();
    await this.#paint();
    document.body.dataset.drawn = "1"; // how often everything was drawn, for tests
    this.busy = false;
    // Images come after the first picture.
    if (this.waiting || (this.view.image && run.slices.some(({ hasImage }) => hasImage))) this.#update();
  }

  #makePanels({ x, y, u, v }) {
    const { run, renderer } = this;
    $("#panels").dataset.count = String(run.slices.length + 1);
    const on = {
      hover: (panel, spot) => this.#hover(panel, spot),
      lasso: (panel, corners) => this.select({ panel: panel.number, polygon: simplified(corners) }),
      click: (spot) => this.select({ spot }),
      camera: (panel) => this.#moved(panel),
    };
    this.panels = [
      new Panel({ number: 0, title: "UMAP of the latent space", renderer, x: u, y: v, start: 0, end: run.n, slice: null, on }),
      ...run.slices.map((slice, i) => new Panel({ number: i + 1, title: slice.name, renderer, x, y, start: slice.start, end: slice.end, slice, on })),
    ];
    this.#fit();
    new ResizeObserver(() => this.#fit()).observe($("#panels"));
  }

  /** The renderer's canvas is as large as the largest panel. */
  #fit() {
    const sides = this.panels.map(({ canvas }) => Math.floor(canvas.getBoundingClientRect().width));
    const most = Math.max(...sides, 16);
    if (most !== this.most) this.renderer.resize(most, most);
    this.most = most;
    sides.forEach((side, i) => side > 0 && side !== this.panels[i].side && this.panels[i].resize(side));
  }

  #listen() {
    const { run, view } = this;
    const choose = (key) => this.colourBy(key);
    listenToSearch(run, choose);
    $("#column").addEventListener("change", (event) => choose(event.target.value));
    $("#sources select").addEventListener("change", (event) => this.#change({ sources: event.target.value }));
    $("#faint").hidden = !run.byKey.has("confidence");
    $("#faint input").addEventListener("change", (event) => this.#change({ faint: event.target.checked }));
    $("#image").hidden = !run.slices.some(({ hasImage }) => hasImage);
    $("#image input").addEventListener("change", (event) => this.#change({ image: event.target.checked }));
    $("#lasso").addEventListener("click", () => this.#lasso());
    $("#clear").addEventListener("click", () => this.select(null));
    $("#whole").addEventListener("click", () => {
      this.view.cameras = {};
      this.#applyCameras();
      this.#remember();
    });
    $("#csv").addEventListener("click", () => this.#download().catch(fail));
    $("#rank").addEventListener("click", () => this.#rank().catch(fail));
    addEventListener("keydown", (event) => {
      if (event.target.matches("input[type=search], select")) return;
      if (event.key === "Escape" && this.view.selection) this.select(null);
      if (event.key.toLowerCase() === "l" && !event.ctrlKey && !event.metaKey) this.#lasso();
    });
    addEventListener("hashchange", () => {
      if (location.hash.slice(1) === this.hash) return;
      this.view = fromHash(location.hash, run);
      this.#applyCameras();
      this.#update();
    });
    this.hash = toHash(view);
  }

  /** Colour by a column or feature. */
  colourBy(key) {
    const hidden = Object.fromEntries(Object.entries(this.view.hidden).filter(([own]) => own === "domain" || own === key));
    this.#change({ column: key, hidden });
  }

  select(selection) {
    this.#change({ selection });
  }

  #hide(key, code, hide) {
    const all = this.run.byKey.get(key).labels.map((_, own) => own);
    const now = new Set(code === null && !hide ? [] : code === null ? all : (this.view.hidden[key] ?? []));
    if (code !== null) now[hide ? "add" : "delete"](code);
    this.#change({ hidden: { ...this.view.hidden, [key]: [...now].sort((a, b) => a - b) } });
  }

  #change(part) {
    Object.assign(this.view, part);
    this.#remember();
    this.#update();
  }

  #remember() {
    this.hash = toHash(this.view);
    history.replaceState(null, "", `#${this.hash}`);
  }

  /** Compute and draw; a change on the way starts it once more. */
  async #update() {
    this.waiting = true;
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.waiting) {
        this.waiting = false;
        await this.#compute();
        for (const panel of this.panels) panel.colours = this.colours;
        await this.#showImages();
        await this.#paint();
      }
    } catch (error) {
      fail(error);
    } finally {
      this.busy = false;
      document.body.dataset.drawn++;
    }
  }

  async #paint() {
    await Promise.all(this.panels.map((panel) => panel.paint(this.codes, this.levels)));
  }

  async #showImages() {
    await Promise.all(this.panels.map((panel) => panel.showImage(this.view.image)));
  }

  /** From the view: codes and opacity of all spots, the selection, and what stands around the panels. */
  async #compute() {
    const { run, view } = this;
    this.column = run.byKey.get(view.column);
    const codes = await loadCodes(this.column);
    const isHidden = new Uint8Array(run.n);
    for (const [key, hidden] of Object.entries(view.hidden)) {
      if (!hidden.length) continue;
      const own = await loadCodes(run.byKey.get(key));
      const set = new Uint8Array(256);
      for (const code of hidden) set[code] = 1;
      for (let i = 0; i < run.n; i++) isHidden[i] |= set[own[i]];
    }
    const confidence = view.faint ? await loadCodes(run.byKey.get("confidence")) : null;
    this.mask = await maskOf(view.selection, run, this.panels, isHidden);
    this.colours = coloursOf(this.column);
    this.codes = this.#ofSources(codes);
    this.levels = new Uint8Array(run.n);
    for (let i = 0; i < run.n; i++) {
      if (isHidden[i]) this.levels[i] = HIDDEN;
      else if (this.mask && !this.mask[i]) this.levels[i] = WEAK;
      else this.levels[i] = confidence ? levelOf(confidence[i]) : FULL;
    }
    this.isHidden = isHidden;
    this.#showChoices();
    this.#showLegends(codes);
    this.#showSelection();
  }

  /** Without the slices that the view leaves out: those where the feature was measured, or imputed. */
  #ofSources(codes) {
    if (this.column.kind !== "feature" || this.view.sources === "both") return codes;
    const shown = codes.slice();
    for (const slice of this.run.slices) {
      if (sourceIn(this.column, slice) !== this.view.sources) shown.fill(MISSING, slice.start, slice.end);
    }
    return shown;
  }

  #showChoices() {
    const { run, view, column } = this;
    fillColumns(run, column);
    $("#sources").hidden = !("measured" in column && "imputed" in column);
    $("#sources select").value = view.sources;
    $("#faint input").checked = view.faint;
    $("#image input").checked = view.image;
    for (const panel of this.panels.slice(1)) {
      const source = column.kind === "feature" && sourceIn(column, panel.slice);
      const trust = source === "imputed" ? trustOf(column) : { text: "", doubtful: false };
      const count = `${panel.slice.n.toLocaleString("en")} spots`;
      if (column.kind !== "feature") panel.caption = count;
      else if (!source) panel.caption = `${count}; ${column.panel.modality} neither measured nor imputed`;
      else panel.caption = `${count}; ${source}${trust.text && `: ${trust.text}`}`;
      panel.doubtful = trust.doubtful;
    }
  }

  #showLegends(codes) {
    const { run, view, column } = this;
    const domain = run.byKey.get("domain");
    const acts = { hide: (...args) => this.#hide(...args), select: (key, code) => this.select({ column: key, code }) };
    const legend = (own, ownCodes) => {
      const counts = new Array(256).fill(0);
      for (let i = 0; i < run.n; i++) counts[ownCodes[i]]++;
      return labelLegend(own, counts, view.hidden[own.key] ?? [], acts);
    };
    const focused = this.#focusIn($("#legends"));
    $("#legends").replaceChildren(
      ...(column === domain ? [] : [column.kind === "labels" ? legend(column, codes) : numberLegend(column)]),
      legend(domain, this.domains),
    );
    focused();
  }

  /** Legends are made anew: the focus goes to what has the place of what had it. */
  #focusIn(place) {
    const tags = "input, button";
    const number = [...place.querySelectorAll(tags)].indexOf(document.activeElement);
    return () => number >= 0 && place.querySelectorAll(tags)[number]?.focus({ preventScroll: true });
  }

  #showSelection() {
    const { run, mask } = this;
    this.ranking++;
    $("#clear").disabled = !mask;
    $("#chosen").hidden = !mask;
    this.selected = mask ? mask.reduce((sum, one) => sum + one, 0) : 0;
    if (!mask) {
      $("#count").textContent = "None. Draw around spots with the lasso, click a spot, or select a domain in the legend.";
      return;
    }
    $("#count").textContent = `${this.selected.toLocaleString("en")} of ${run.n.toLocaleString("en")} spots`;
    fillCounts(run, countsOf(mask, run, this.domains));
    const key = JSON.stringify([this.view.selection, this.view.hidden]);
    if (key === this.ranked) return this.ranking--; // another colour of the same selection
    this.ranked = key;
    fillMarkers([], null);
    $("#progress").textContent = "";
    const atOnce = run.features.length * run.n <= RANKED_AT_ONCE;
    $("#rank").hidden = atOnce;
    if (atOnce) this.#rank().catch(fail);
  }

  async #rank() {
    const { run, mask } = this;
    const own = ++this.ranking;
    $("#rank").hidden = true;
    const report = (share) => ($("#progress").textContent = `Ranking ${run.features.length.toLocaleString("en")} features: ${Math.round(share * 100)} %`);
    report(0);
    const found = await markersOf(mask, run, () => own !== this.ranking, report);
    if (!found) return;
    $("#progress").textContent = found.length
      ? "Measured values of the selected against the other spots, slice by slice; a ranking, not a test."
      : "No slice has ten measured spots inside and ten outside of the selection.";
    fillMarkers(found, (key) => this.colourBy(key));
  }

  async #download() {
    const { run, mask, column } = this;
    const keys = new Set(["domain", "confidence", column.key]);
    const columns = [];
    for (const key of keys) if (run.byKey.has(key)) columns.push({ column: run.byKey.get(key), codes: await loadCodes(run.byKey.get(key)) });
    const text = csvOf(mask, run, await loadBarcodes(), columns);
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "selection.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  #lasso() {
    const on = $("#lasso").getAttribute("aria-pressed") !== "true";
    $("#lasso").setAttribute("aria-pressed", String(on));
    for (const panel of this.panels) panel.lasso = on;
  }

  #hover(panel, spot) {
    if (spot !== null && this.isHidden[spot]) return panel.point(null);
    for (const other of this.panels) if (other !== panel) other.point(spot);
    $("#hover").textContent = spot === null ? "Point at a spot to see what it is." : this.describe(spot);
  }

  /** A spot in words. */
  describe(spot) {
    const { run, column } = this;
    const slice = sliceOf(spot);
    const domain = run.byKey.get("domain");
    const parts = [slice.name, `${domain.label} ${textOf(domain, this.domains[spot], slice)}`];
    if (column !== domain) {
      const source = column.kind === "feature" ? `${sourceIn(column, slice) ?? ""}` : "";
      parts.push(`${column.label} ${[textOf(column, this.codes[spot], slice) || "missing", source].join(" ").trim()}`);
    }
    return parts.join(" · ");
  }

  #moved(panel) {
    if (!document.body.dataset.drawn) return;
    const camera = panel.camera;
    const whole = camera.every((value, i) => Math.abs(value - [0, 0, 1][i]) < 1e-3);
    if (whole) delete this.view.cameras[panel.number];
    else this.view.cameras[panel.number] = camera;
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => this.#remember(), 200);
  }

  #applyCameras() {
    const { cameras } = this.view;
    for (const panel of this.panels) panel.camera = cameras[panel.number] ?? [0, 0, 1];
  }
}

start().catch((error) => {
  if ($("#fault").hidden) fail(error);
  throw error;
});
