// What stands around the panels: search, choices, legends, tables. All text of users goes in as textContent.
import { gradient, labelColours } from "./colours.js";
import { shortNumber } from "./data.js";

const MOST_FOUND = 40;

export const $ = (selector) => document.querySelector(selector);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const swatch = (colour) => {
  const element = make("span", { className: "swatch" });
  element.style.background = colour;
  return element;
};

/** What held-out validation says of the imputation of a feature; doubtful: it is no better than the mean. */
export function trustOf(feature) {
  if (!("trusted" in feature)) return { text: "imputation not checked", doubtful: false };
  const score = feature.pearson === null ? "" : `held-out r ${feature.pearson.toFixed(2)}`;
  if (feature.trusted) return { text: score, doubtful: false };
  return { text: `⚠ don't trust: no better than the mean${score && `, ${score}`}`, doubtful: true };
}

/** The box that finds features and columns of all modalities while one types. */
export function listenToSearch(run, choose) {
  const input = $("#search input");
  const list = $("#found");
  const all = [...run.features, ...run.columns].map((column) => [column.label.toLowerCase(), column]);
  let found = [];
  let active = -1;

  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const take = (column) => {
    input.value = "";
    close();
    choose(column.key);
  };
  const mark = (number) => {
    active = number;
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === active)));
    list.children[active]?.scrollIntoView({ block: "nearest" });
    if (active >= 0) input.setAttribute("aria-activedescendant", `found-${active}`);
  };
  const show = () => {
    const asked = input.value.trim().toLowerCase();
    const places = asked ? all.map(([name, column]) => [name.indexOf(asked), name.length, column]) : [];
    // Names that begin with it, then those that have it; short ones first.
    found = places
      .filter(([at]) => at >= 0)
      .sort((a, b) => Math.min(a[0], 1) - Math.min(b[0], 1) || a[1] - b[1])
      .slice(0, MOST_FOUND)
      .map(([, , column]) => column);
    list.replaceChildren(
      ...found.map((column, i) => {
        const about = column.kind !== "feature" ? column.group : column.imputed ? `${column.panel.modality}, ${trustOf(column).text}` : column.panel.modality;
        const item = make("li", { id: `found-${i}`, role: "option" }, make("span", { textContent: column.label || "(no name)" }), make("small", { textContent: about }));
        item.addEventListener("mousedown", (event) => event.preventDefault()); // the focus stays in the box
        item.addEventListener("click", () => take(column));
        return item;
      }),
    );
    if (asked && !found.length) list.replaceChildren(make("li", { textContent: "Nothing by this name is in the explorer." }));
    list.hidden = !asked;
    input.setAttribute("aria-expanded", String(!list.hidden));
    mark(found.length ? 0 : -1);
  };
  input.addEventListener("input", show);
  input.addEventListener("focus", show);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (found.length) mark((active + (event.key === "ArrowDown" ? 1 : found.length - 1)) % found.length);
      event.preventDefault();
    } else if (event.key === "Enter" && found[active] && !list.hidden) take(found[active]);
    else if (event.key === "Escape") {
      input.value = "";
      close();
    }
  });
}

/** The choice of columns; a feature, which the search finds, is a choice of its own while it is shown. */
export function fillColumns(run, shown) {
  const select = $("#column");
  const groups = new Set(run.columns.map(({ group }) => group));
  const of = (label) => run.columns.filter(({ group }) => group === label);
  const option = (column, text) => make("option", { value: column.key, textContent: text, selected: column === shown });
  select.replaceChildren(
    ...(shown.kind === "feature" ? [make("optgroup", { label: "Feature" }, option(shown, `${shown.label} (${shown.panel.modality})`))] : []),
    ...[...groups].map((label) => make("optgroup", { label }, ...of(label).map((column) => option(column, column.label)))),
  );
}

/** A legend whose boxes hide labels and whose buttons select their spots. */
export function labelLegend(column, counts, hidden, { hide, select }) {
  const colours = labelColours(column);
  const items = column.labels.map((label, code) => {
    const name = label || "(no name)";
    const box = make("input", { type: "checkbox", checked: !hidden.includes(code) });
    box.addEventListener("change", () => hide(column.key, code, !box.checked));
    const button = make("button", { type: "button", textContent: "select", title: `Select the spots of ${name}` });
    button.addEventListener("click", () => select(column.key, code));
    const text = make("span", { textContent: name });
    const count = make("small", { textContent: counts[code].toLocaleString("en") });
    return make("li", {}, make("label", {}, box, swatch(colours[code]), text, count), button);
  });
  const all = make("button", { type: "button", textContent: hidden.length ? "show all" : "hide all" });
  all.addEventListener("click", () => hide(column.key, null, !hidden.length));
  return make("div", { className: "legend" }, make("h3", { textContent: column.label }), make("ul", {}, ...items), all);
}

/** A legend of numbers: for a feature a bar for what was measured and one for what was imputed. */
export function numberLegend(column) {
  const bars = column.kind === "feature" ? ["measured", "imputed"].filter((source) => source in column) : ["span"];
  return make(
    "div",
    { className: "legend" },
    make("h3", { textContent: column.kind === "feature" ? `${column.label} (${column.panel.modality})` : column.label }),
    ...(column.kind === "feature" ? [make("small", { textContent: column.panel.scale })] : []),
    ...bars.map((source) => {
      const [low, high, more] = column[source];
      const bar = make("div", { className: "bar" });
      bar.style.background = gradient;
      const ends = [shortNumber(low), ...(source === "span" ? [] : [source]), `${more ? "≥ " : ""}${shortNumber(high)}`];
      return make("div", {}, bar, make("div", { className: "ends" }, ...ends.map((textContent) => make("span", { textContent }))));
    }),
    ...("imputed" in column ? [make("small", { textContent: trustOf(column).text })] : []),
  );
}

/** The selected spots of each domain and slice. */
export function fillCounts(run, counts) {
  const domain = run.byKey.get("domain");
  const colours = labelColours(domain);
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const row = (tag, first, numbers) =>
    make("tr", {}, make(tag, {}, ...first), ...numbers.map((number) => make("td", { textContent: number.toLocaleString("en") })));
  const rows = counts
    .map((numbers, code) => [sum(numbers), numbers, code])
    .filter(([all]) => all)
    .map(([all, numbers, code]) => row("th", [swatch(colours[code]), ` ${domain.labels[code]}`], [...numbers, all]));
  const names = [domain.label, ...run.slices.map(({ name }) => name), "all"];
  const totals = run.slices.map((_, slice) => sum(counts.map((numbers) => numbers[slice])));
  $("#counts").replaceChildren(
    make("thead", {}, make("tr", {}, ...names.map((textContent) => make("th", { textContent, scope: "col" })))),
    make("tbody", {}, ...rows, row("th", ["all"], [...totals, sum(totals)])),
  );
}

/** The features that mark the selection; a click colours by one. */
export function fillMarkers(found, choose) {
  const names = ["Feature", "AUROC", "inside", "outside"];
  const rows = found.map(({ feature, auroc, inside, outside }) => {
    const button = make("button", { type: "button", textContent: feature.label || "(no name)", title: "Colour by it" });
    button.addEventListener("click", () => choose(feature.key));
    const numbers = [auroc.toFixed(3), shortNumber(inside), shortNumber(outside)];
    return make("tr", {}, make("td", {}, button, make("small", { textContent: ` ${feature.panel.modality}` })), ...numbers.map((textContent) => make("td", { textContent })));
  });
  $("#markers").replaceChildren(
    ...(found.length ? [make("thead", {}, make("tr", {}, ...names.map((textContent) => make("th", { textContent, scope: "col" })))), make("tbody", {}, ...rows)] : []),
  );
}
