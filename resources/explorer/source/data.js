// The files beside the page. A page opened from a disk may load scripts and nothing else, so each file is a script that
// calls explorerData with its name and its content.

const waiting = new Map();
window.explorerData = (name, content) => waiting.get(name)?.(content);

function load(name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    waiting.set(name, (content) => {
      waiting.delete(name);
      script.remove();
      resolve(content);
    });
    script.onerror = () => reject(new Error(`The file data/${name}.js is missing: copy the whole folder.`));
    script.src = `data/${name}.js`;
    document.head.append(script);
  });
}

async function unpack(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export const MISSING = 255;
export const LEVELS = 254;
const UNPLACED = 65535;
const KEPT_BYTES = 64e6;

let run;
const files = new Map();

/** What the page has to know of the run: slices, columns, features. */
export async function loadRun() {
  run = await load("run");
  let start = 0;
  run.slices.forEach((slice, index) => Object.assign(slice, { index, start, end: (start += slice.n) }));
  run.columns.forEach((column) => Object.assign(column, { kind: column.labels ? "labels" : "numbers" }));
  run.features = run.panels.flatMap((panel) =>
    panel.features.map((feature) =>
      Object.assign(feature, { panel, kind: "feature", key: `${panel.modality}/${feature.name}`, label: feature.name }),
    ),
  );
  const all = [...run.columns, ...run.features];
  run.byKey = new Map(all.map((column) => [column.key, column]));
  return run;
}

/** Positions of all spots between -1 and 1, y upwards: x and y on the tissue (NaN: far outside), u and v in the UMAP. */
export async function loadSpots() {
  const bytes = await unpack(await load("spots"));
  const n = run.n;
  const axis = (number) => (i) => (bytes[2 * number * n + i] << 8) | bytes[(2 * number + 1) * n + i];
  const steps = (number, sign) => {
    const read = axis(number);
    const positions = new Float32Array(n);
    for (let i = 0, at = 0; i < n; i++) {
      const step = read(i);
      at = (at + ((step >> 1) ^ -(step & 1))) & 0xffff;
      positions[i] = at === UNPLACED ? Number.NaN : sign * ((2 * at) / 16383 - 1);
    }
    return positions;
  };
  const places = (number) => {
    const read = axis(number);
    return Float32Array.from({ length: n }, (_, i) => (2 * read(i)) / 4095 - 1);
  };
  return { x: steps(0, 1), y: steps(1, -1), u: places(2), v: places(3) };
}

/** The codes of a column or feature, a byte per spot. */
export async function loadCodes({ at }) {
  const number = Math.floor(at / run.perFile);
  if (!files.has(number)) files.set(number, load(`columns.${number}`).then(unpack));
  const bytes = await files.get(number).catch((error) => {
    files.delete(number);
    throw error;
  });
  // The files used last stay in memory.
  files.delete(number);
  files.set(number, Promise.resolve(bytes));
  const most = Math.max(2, Math.floor(KEPT_BYTES / (run.perFile * run.n)));
  for (const old of [...files.keys()].slice(0, Math.max(0, files.size - most))) files.delete(old);
  const place = (at % run.perFile) * run.n;
  return bytes.subarray(place, place + run.n);
}

export async function loadBarcodes() {
  return JSON.parse(new TextDecoder().decode(await unpack(await load("barcodes"))));
}

/** The tissue of a slice, as square as its panel. */
export async function loadImage(slice) {
  const image = new Image();
  image.src = `data:image/jpeg;base64,${await load(`image.${slice.index}`)}`;
  await image.decode();
  return image;
}

/** Whether a feature was measured or imputed in a slice; null if neither. */
export const sourceIn = (feature, slice) => (feature.sources ?? feature.panel.sources)[slice.index];

/** The values of code 0 and of the last code, and whether larger values have the last code, too. */
export const spanOf = (column, slice) => column.span ?? column[sourceIn(column, slice)];

export function valueOf([low, high], code) {
  return low + ((high - low) * code) / LEVELS;
}

export function shortNumber(value) {
  const size = Math.abs(value);
  return size >= 1e5 || (size > 0 && size < 1e-3) ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

/** A value as text; empty where a spot has none. */
export function textOf(column, code, slice) {
  if (code === MISSING) return "";
  if (column.kind === "labels") return column.labels[code];
  const span = spanOf(column, slice);
  return `${span[2] && code === LEVELS ? "≥ " : ""}${shortNumber(valueOf(span, code))}`;
}

export const sliceOf = (spot) => run.slices.find((slice) => spot < slice.end);
