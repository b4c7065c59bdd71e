// The panels: one canvas for the UMAP and one for each slice, drawn by regl-scatterplot with one renderer for all.
import createScatterplot, { createRenderer } from "regl-scatterplot";
import { OPACITIES, WEAK } from "./colours.js";
import { loadImage, shortNumber } from "./data.js";

const KEY_STEP = 0.2; // of what a panel shows, per arrow key
const ZOOM_STEP = 1.5;
const OVER_IMAGE = 0.65; // size of the spots, so that one sees the image between them

/** The renderer, or null where the browser has no WebGL that can draw. */
export function makeRenderer() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 16;
  if (!canvas.getContext("webgl", { preserveDrawingBuffer: true })) return null;
  const renderer = createRenderer({ canvas, gamma: 1 });
  return renderer.isSupported ? renderer : null;
}

export class Panel {
  /**
   * number: 0 for the UMAP, then the slices; x, y: positions of all spots; start, end: the spots it shows;
   * slice: null for the UMAP; on: what to call at `hover`, `lasso`, `click` and `camera`.
   */
  constructor({ number, title, renderer, x, y, start, end, slice, on }) {
    Object.assign(this, { number, title, renderer, x, y, start, end, slice, on });
    const { body, canvas } = this.#build();
    this.body = body;
    this.canvas = canvas;
    const { width } = canvas.getBoundingClientRect();
    this.side = width;
  }

  #build() {
    const body = document.querySelector("#panel").content.firstElementChild.cloneNode(true);
    const canvas = body.querySelector("canvas");
    body.querySelector("h2").textContent = this.title;
    canvas.setAttribute("aria-label", `${this.title}: spots. Arrow keys move, plus and minus zoom, 0 shows all.`);
    document.querySelector("#panels").append(body);
    const notes = [this.slice?.note, this.slice?.unplaced ? `${this.slice.unplaced} spots lie far outside` : ""];
    body.querySelector(".note").textContent = notes.filter(Boolean).join("; ");
    for (const button of body.querySelectorAll("button")) {
      button.setAttribute("aria-label", `${this.title}: ${button.title}`);
      button.addEventListener("click", () => this.#act(button.dataset.act));
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    // A wheel scrolls the page until a panel was chosen.
    const strange = (event) => document.activeElement !== canvas && !event.ctrlKey && event.stopPropagation();
    body.querySelector(".frame").addEventListener("wheel", strange, { capture: true });
    canvas.addEventListener("mousedown", () => canvas.focus({ preventScroll: true }));
    listenToTouch(canvas, () => this.plot?.get("mouseMode") === "lasso");
    return { body, canvas };
  }

  /** Start drawing: makes the points, and the plot. */
  open(colours, codes, levels) {
    const points = new Array(this.end - this.start);
    for (let i = this.start; i < this.end; i++) {
      const placed = !Number.isNaN(this.x[i]);
      points[i - this.start] = [placed ? this.x[i] : 9, placed ? this.y[i] : 9, codes[i], levels[i]];
    }
    this.points = points;
    this.plot = createScatterplot({
      renderer: this.renderer,
      canvas: this.canvas,
      width: this.side,
      height: this.side,
      backgroundColor: "#FFFFFF",
      colorBy: "valueA",
      opacityBy: "valueB",
      opacity: this.#opacities(),
      pointColor: colours,
      pointSize: this.#pointSize(),
      pointScaleMode: "linear",
      pointOutlineWidth: 0,
      pointSizeSelected: 0,
      showReticle: true,
      reticleColor: [0.15, 0.15, 0.15, 0.6],
      lassoColor: [0.15, 0.15, 0.15, 1],
      lassoMinDelay: 0,
      deselectOnEscape: false,
      spatialIndexUseWorker: false,
    });
    this.plot.subscribe("pointOver", (i) => this.on.hover(this, this.start + i));
    this.plot.subscribe("pointOut", () => this.on.hover(this, null));
    this.plot.subscribe("view", () => this.#viewed());
    this.plot.subscribe("select", ({ points: chosen }) => {
      // The page draws selections itself, from the corners of the lasso or from the spot that was clicked.
      this.plot.deselect({ preventEvent: true });
      if (!this.lassoing && chosen.length === 1) this.on.click(this.start + chosen[0]);
    });
    this.plot.subscribe("lassoStart", () => (this.lassoing = true));
    this.plot.subscribe("lassoEnd", ({ coordinates }) => {
      this.lassoing = false;
      if (coordinates.length > 2) this.on.lasso(this, coordinates);
    });
    this.#viewed();
  }

  /** Show or hide the image of the tissue; it is loaded when it is first shown. */
  async showImage(on) {
    if (!this.slice?.hasImage || on === Boolean(this.hasImage)) return;
    this.hasImage = on;
    this.image ??= loadImage(this.slice).then((image) => this.renderer.regl.texture({ data: image, mag: "linear", min: "linear" }));
    const texture = await this.image;
    if (this.hasImage === on) this.plot.set({ backgroundImage: on ? texture : null, pointSize: this.#pointSize() });
  }

  /** Draw all spots with these codes and levels of opacity. */
  async paint(codes, levels) {
    for (let i = this.start; i < this.end; i++) {
      const point = this.points[i - this.start];
      point[2] = codes[i];
      point[3] = levels[i];
    }
    await this.plot.draw(this.points, {
      zDataType: "categorical",
      wDataType: "categorical",
      spatialIndex: this.plot.get("spatialIndex"),
      preventFilterReset: true,
    });
  }

  #pointSize() {
    // Spots of a tissue nearly touch; those of a UMAP are as small as they are many.
    const spots = this.end - this.start;
    const share = this.hasImage ? OVER_IMAGE : 0.95;
    const size = this.slice ? (this.slice.pitch * this.side * share) / 2 : (0.5 * this.side) / Math.sqrt(spots);
    return Math.max(this.slice ? 1 : 1.5, Math.min(size, this.slice ? 24 : 5));
  }

  /** Weak spots that cover each other are weaker still: together they would hide the selected ones. */
  #opacities() {
    const [width, height] = this.slice?.extent ?? [1, 1]; // in halves of the panel; a UMAP fills about a quarter
    const area = (width * height * this.side ** 2) / 4;
    const layers = ((this.end - this.start) * this.#pointSize() ** 2) / area;
    return OPACITIES.map((opacity, level) => (level === WEAK ? opacity / Math.max(layers, 1) : opacity));
  }

  resize(side) {
    this.side = side;
    this.plot?.set({ width: side, height: side, pointSize: this.#pointSize(), opacity: this.#opacities() });
    this.#viewed();
  }

  get camera() {
    const [x, y] = this.plot.get("cameraTarget");
    return [x, y, this.plot.get("cameraDistance")];
  }

  set camera([x, y, distance]) {
    this.plot.set({ cameraTarget: [x, y], cameraDistance: distance });
    this.plot.redraw();
    this.#viewed();
  }

  /** Show a ring of cross hairs at a spot that is hovered elsewhere; null: none. */
  point(spot) {
    const own = spot !== null && spot >= this.start && spot < this.end && !Number.isNaN(this.x[spot]);
    this.plot.hover(own ? spot - this.start : -1, { preventEvent: true, showReticleOnce: own });
  }

  /** Where a spot is, in pixels of the page from the canvas's corner. */
  place(spot) {
    const [x, y, distance] = this.camera;
    return [this.x[spot] - x, y - this.y[spot]].map((step) => (step / distance + 1) * (this.side / 2));
  }

  set colours(colours) {
    this.plot.set({ pointColor: colours });
  }

  set lasso(on) {
    this.canvas.style.touchAction = on ? "none" : "pan-y";
    this.plot.set({ mouseMode: on ? "lasso" : "panZoom" });
  }

  set caption(text) {
    this.body.querySelector(".caption").textContent = text;
  }

  set doubtful(yes) {
    this.body.classList.toggle("doubtful", yes);
  }

  #act(act) {
    const [x, y, distance] = this.camera;
    if (act === "in") this.camera = [x, y, distance / ZOOM_STEP];
    else if (act === "out") this.camera = [x, y, distance * ZOOM_STEP];
    else this.camera = [0, 0, 1];
    this.on.camera(this);
  }

  #key(event) {
    const [x, y, distance] = this.camera;
    const step = KEY_STEP * distance;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    const acts = { "+": "in", "=": "in", "-": "out", 0: "all" };
    if (event.key in moves) {
      const [right, up] = moves[event.key];
      this.camera = [x + right, y + up, distance];
      this.on.camera(this);
    } else if (event.key in acts) this.#act(acts[event.key]);
    else return;
    event.preventDefault();
  }

  #viewed() {
    if (!this.plot) return;
    this.#drawScale();
    this.on.camera(this);
  }

  /** A bar of 1, 2 or 5 times a power of ten, at most a third of the panel, where the unit is known. */
  #drawScale() {
    if (!this.slice?.umPerUnit) return;
    const perPixel = (2 * this.slice.half * this.slice.umPerUnit * this.camera[2]) / this.side;
    const most = (perPixel * this.side) / 3;
    const power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].find((step) => step * power <= most) * power;
    const bar = this.body.querySelector(".scale");
    bar.hidden = false;
    bar.style.width = `${length / perPixel}px`;
    bar.textContent = length >= 1000 ? `${shortNumber(length / 1000)} mm` : `${shortNumber(length)} µm`;
  }
}

/** Two fingers move and zoom, and one scrolls the page; while the lasso is on, one finger draws it. */
function listenToTouch(canvas, isLasso) {
  let apart = 0;
  let held = false;
  const send = (type, at, target, buttons) =>
    target.dispatchEvent(new MouseEvent(type, { bubbles: true, buttons, clientX: at.clientX, clientY: at.clientY }));
  const middle = ({ touches }) => {
    const [a, b] = [touches[0], touches[touches.length - 1]];
    return { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
  };
  const spread = ({ touches: [a, b] }) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  const ours = (event) => event.touches.length === (isLasso() ? 1 : 2);
  canvas.addEventListener("touchstart", (event) => {
    if (!ours(event)) return;
    event.preventDefault();
    apart = isLasso() ? 0 : spread(event);
    canvas.focus({ preventScroll: true });
    held = true;
    const at = middle(event);
    send("mousemove", at, window, 0);
    // A camera moves by the way since its last frame: it must have seen where the fingers are before they press.
    requestAnimationFrame(() => requestAnimationFrame(() => held && send("mousedown", at, canvas, 1)));
  });
  canvas.addEventListener("touchmove", (event) => {
    if (!ours(event)) return;
    event.preventDefault();
    send("mousemove", middle(event), window, 1);
    if (isLasso()) return;
    const deltaY = Math.log(apart / spread(event)) * canvas.clientHeight;
    canvas.dispatchEvent(new WheelEvent("wheel", { bubbles: true, cancelable: true, deltaY, ...middle(event) }));
    apart = spread(event);
  });
  for (const type of ["touchend", "touchcancel"]) {
    canvas.addEventListener(type, (event) => {
      held = false;
      send("mouseup", event.changedTouches[0], window, 0);
    });
  }
}
