// Colours of codes, and how strongly a spot is drawn.
import { LEVELS, MISSING } from "./data.js";

// Viridis, which colour-blind readers see as an even scale from dark to light.
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
// For labels without colours of their own: those of Okabe and Ito (2008), then hues by the golden angle.
const LABELS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#4D4D4D"];
const NONE = "#D9D9D9";

// Levels of opacity: hidden, weakened, and 16 steps of confidence, the last of which is full.
export const HIDDEN = 0;
export const WEAK = 1;
export const FULL = 17;
export const OPACITIES = [0, 0.12, ...Array.from({ length: 16 }, (_, step) => 0.1 + (0.9 * step) / 15)];
export const levelOf = (confidence) => (confidence === MISSING ? FULL : 2 + Math.floor((confidence * 15) / LEVELS));

const channels = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));

function viridis(share) {
  const place = share * (VIRIDIS.length - 1);
  const step = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const [from, to] = [channels(VIRIDIS[step]), channels(VIRIDIS[step + 1])];
  const mixed = from.map((value, i) => Math.round(value + (to[i] - value) * (place - step)));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

function hue(number) {
  const share = (number * 137.508) % 360;
  // HSL to hex, at a saturation and lightness that white and grey leave visible.
  const part = (shift) => {
    const k = (shift + share / 30) % 12;
    return Math.round(255 * (0.45 - 0.3 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return `#${[0, 8, 4].map((shift) => part(shift).toString(16).padStart(2, "0")).join("")}`;
}

export const labelColours = (column) => column.colours ?? column.labels.map((_, i) => LABELS[i] ?? hue(i));

/** A colour for each of the 256 codes. */
export function coloursOf(column) {
  const colours = new Array(256).fill(NONE);
  if (column.kind === "labels") labelColours(column).forEach((colour, code) => (colours[code] = colour));
  else for (let code = 0; code <= LEVELS; code++) colours[code] = viridis(code / LEVELS);
  return colours;
}

export const gradient = `linear-gradient(to right, ${VIRIDIS.join(", ")})`;
