// What is shown, and its form in the address, so that a link shows the same.

/** What the page opens with. */
export const initial = () => ({
  column: "domain", // key of the column or feature that colours the spots
  sources: "both", // of a feature: both, measured or imputed
  faint: false, // opacity by confidence
  image: true, // of the tissue, under the spots
  hidden: {}, // per column of labels the codes that are hidden
  selection: null, // {panel, polygon}, or {column, code}, or {spot}
  cameras: {}, // per panel [x, y, distance] where it is not the whole
});

const rounded = (value) => Math.round(value * 1e4) / 1e4;

export function toHash(view) {
  const parts = new URLSearchParams();
  if (view.column !== "domain") parts.set("colour", view.column);
  if (view.sources !== "both") parts.set("show", view.sources);
  if (view.faint) parts.set("faint", "1");
  if (!view.image) parts.set("image", "0");
  for (const [key, codes] of Object.entries(view.hidden)) if (codes.length) parts.append("hide", `${codes.join(",")},${key}`);
  const { selection } = view;
  if (selection?.polygon) parts.set("lasso", [selection.panel, ...selection.polygon.flat()].join(","));
  else if (selection?.column) parts.set("label", `${selection.code},${selection.column}`);
  else if (selection) parts.set("spot", selection.spot);
  for (const [panel, camera] of Object.entries(view.cameras)) parts.append("zoom", [panel, ...camera.map(rounded)].join(","));
  return parts.toString().replaceAll("%2C", ",");
}

/** The view of an address; what the run does not have is left out. */
export function fromHash(hash, run) {
  const view = initial();
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const isPanel = (number) => Number.isInteger(number) && number >= 0 && number <= run.slices.length;
  const labels = (text) => {
    const [, codes, key] = text.match(/^([\d,]+),(.*)$/s) ?? []; // a key begins with a letter
    const column = run.byKey.get(key);
    const known = codes?.split(",").map(Number).filter((code) => code < (column?.labels?.length ?? 0)) ?? [];
    return { key, codes: known };
  };
  if (run.byKey.has(parts.get("colour"))) view.column = parts.get("colour");
  if (["measured", "imputed"].includes(parts.get("show"))) view.sources = parts.get("show");
  view.faint = parts.get("faint") === "1" && run.byKey.has("confidence");
  view.image = parts.get("image") !== "0";
  for (const text of parts.getAll("hide")) {
    const { key, codes } = labels(text);
    if (codes.length) view.hidden[key] = codes;
  }
  if (parts.has("lasso")) {
    const [panel, ...numbers] = parts.get("lasso").split(",").map(Number);
    const polygon = [];
    for (let i = 0; i + 1 < numbers.length; i += 2) polygon.push([numbers[i], numbers[i + 1]]);
    if (isPanel(panel) && polygon.length > 2 && numbers.every(Number.isFinite)) view.selection = { panel, polygon };
  } else if (parts.has("label")) {
    const { key, codes } = labels(parts.get("label"));
    if (codes.length) view.selection = { column: key, code: codes[0] };
  } else if (parts.has("spot")) {
    const spot = Number(parts.get("spot"));
    if (Number.isInteger(spot) && spot >= 0 && spot < run.n) view.selection = { spot };
  }
  for (const text of parts.getAll("zoom")) {
    const [panel, ...camera] = text.split(",").map(Number);
    if (isPanel(panel) && camera.length === 3 && camera.every(Number.isFinite) && camera[2] > 0) view.cameras[panel] = camera;
  }
  return view;
}
