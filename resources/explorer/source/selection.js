// The selected spots: which they are, how many of each domain and slice, what marks them, and their table.
import { loadCodes, MISSING, sourceIn, spanOf, textOf, valueOf } from "./data.js";

const MOST_CORNERS = 80; // of a lasso, so that it fits into an address
const FEWEST_SPOTS = 10; // of a slice on either side, to rank markers
const MOST_MARKERS = 15;

/** A lasso with few corners and few digits: the address has it, and the selection is made from it. */
export function simplified(polygon) {
  const step = Math.max(1, polygon.length / MOST_CORNERS);
  const corners = [];
  for (let i = 0; i < polygon.length; i += step) corners.push(polygon[Math.floor(i)].map((value) => Math.round(value * 1e3) / 1e3));
  return corners;
}

export function inPolygon(polygon, x, y) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i];
    const [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

/** A mask of the spots of a selection; `hidden` ones are left out, as nobody saw them. Null without a selection. */
export async function maskOf(selection, run, panels, hidden) {
  if (!selection) return null;
  const mask = new Uint8Array(run.n);
  if (selection.polygon) {
    const { x, y, start, end } = panels[selection.panel];
    for (let i = start; i < end; i++) mask[i] = !hidden[i] && inPolygon(selection.polygon, x[i], y[i]);
  } else if (selection.column) {
    const codes = await loadCodes(run.byKey.get(selection.column));
    for (let i = 0; i < run.n; i++) mask[i] = !hidden[i] && codes[i] === selection.code;
  } else mask[selection.spot] = 1;
  return mask;
}

/** Selected spots per domain (rows) and slice (columns). */
export function countsOf(mask, run, domains) {
  return run.byKey.get("domain").labels.map((_, domain) =>
    run.slices.map(({ start, end }) => {
      let count = 0;
      for (let i = start; i < end; i++) count += mask[i] && domains[i] === domain;
      return count;
    }),
  );
}

/**
 * Compare a feature between the selected and the other spots of each slice that measured it.
 * AUROC is the probability that a selected spot has more of it than another (ties count half): the mean over slices,
 * so that a difference between slices is not taken for a marker.
 */
export function compared(codes, mask, feature, run) {
  let slices = 0;
  const sums = { auroc: 0, inside: 0, outside: 0 };
  for (const slice of run.slices) {
    if (sourceIn(feature, slice) !== "measured") continue;
    const inside = new Float64Array(256);
    const outside = new Float64Array(256);
    for (let i = slice.start; i < slice.end; i++) (mask[i] ? inside : outside)[codes[i]]++;
    const totals = [0, 0];
    const means = [0, 0];
    let wins = 0;
    const span = spanOf(feature, slice);
    for (let code = 0; code < MISSING; code++) {
      wins += inside[code] * (totals[1] + outside[code] / 2);
      [inside, outside].forEach((counts, side) => {
        totals[side] += counts[code];
        means[side] += counts[code] * valueOf(span, code);
      });
    }
    if (Math.min(...totals) < FEWEST_SPOTS) continue;
    slices++;
    sums.auroc += wins / totals[0] / totals[1];
    sums.inside += means[0] / totals[0];
    sums.outside += means[1] / totals[1];
  }
  if (!slices) return null;
  return { feature, auroc: sums.auroc / slices, inside: sums.inside / slices, outside: sums.outside / slices };
}

/** The features that mark the selection best, over all modalities; null if `isStale` turns true on the way. */
export async function markersOf(mask, run, isStale, report) {
  const found = [];
  let since = performance.now();
  for (const [number, feature] of run.features.entries()) {
    const result = compared(await loadCodes(feature), mask, feature, run);
    if (result) found.push(result);
    if (performance.now() - since > 50) {
      report(number / run.features.length);
      await new Promise((resolve) => setTimeout(resolve));
      since = performance.now();
    }
    if (isStale()) return null;
  }
  return found.sort((a, b) => b.auroc - a.auroc).slice(0, MOST_MARKERS);
}

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** The selected spots as csv: their names, and the values of columns as the page has them. */
export function csvOf(mask, run, barcodes, columns) {
  const rows = [["spot", "slice", "barcode", ...columns.map(({ column }) => column.label)]];
  for (const slice of run.slices) {
    for (let i = slice.start; i < slice.end; i++) {
      if (!mask[i]) continue;
      const values = columns.map(({ column, codes }) => textOf(column, codes[i], slice));
      rows.push([`${slice.name}:${barcodes[i]}`, slice.name, barcodes[i], ...values]);
    }
  }
  return `${rows.map((row) => row.map(quoted).join(",")).join("\r\n")}\r\n`;
}
