// One chart over partitions or bins, drawn by uPlot: bars, stacked bars, lines, a band, a limit.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { element } from "./dom.js";
import { UNKNOWN, shortKey } from "./format.js";

const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif';
const LABEL_PIXELS = 64;
const GUTTER_PIXELS = 52;
const WHOLE_STEPS = Array.from({ length: 12 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();

const drawn = new Set();
new MutationObserver(() => drawn.forEach((plot) => plot.redraw(false, true))).observe(document.documentElement, {
  attributes: true,
  attributeFilter: ["data-theme"],
});

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const known = (value) => value !== null && value !== undefined;

/**
 * A chart as a figure.
 *
 * - `title`, `summary`: what it shows, and the same in a sentence or two for those who cannot see it.
 * - `keys`: one name for each place on the x axis. `label(key, place)`: as it is written there.
 * - `series`: [{name, values, colour, kind}], one value for each key, null where there is none; `kind` is `bars`
 *   (several are stacked), `line` or `edge` (of a band between the two edges); `colour` names a colour of tokens.css.
 * - `text(value)`: a value with its unit. `axis(value)`: the same where there is little room.
 * - `limit`: {value, name}, drawn as a line. `flagged`: places where something failed.
 * - `ceiling`: where the y axis ends at least. `fromZero: false`: the y axis follows the values.
 * - `nothing`: what is said when there are no values.
 * - `together`: charts of one name show their values at the same place. `reading`: the place that is shown at first.
 */
export function chart(options) {
  const { title, summary, keys, series, text, limit, together, tall } = options;
  const reading = element("span", { class: "reading" });
  const plotHost = element("div", { class: "plot", role: "img", "aria-label": `${title}. ${summary}` });
  const empty = series.every(({ values }) => !values.some(known));
  const figure = element(
    "figure",
    { class: tall ? "chart tall" : "chart" },
    element("figcaption", {}, element("span", {}, title), reading),
    plotHost,
    series.length > 1 || limit ? legend(series, limit) : null,
  );
  const first = options.reading ?? keys.length - 1;
  const label = options.label ?? shortKey;
  const read = (place) => {
    const at = place ?? first;
    const values = series.map(({ name, values }) => {
      const value = known(values[at]) ? text(values[at]) : UNKNOWN;
      return series.length > 1 ? `${name} ${value}` : value;
    });
    reading.textContent = keys.length ? `${label(keys[at], at)}: ${values.join(", ")}` : "";
  };
  if (empty) {
    plotHost.classList.add("empty");
    plotHost.textContent = options.nothing ?? "No values";
    return figure;
  }
  read(null);

  let plot = null;
  const resized = new ResizeObserver(([{ contentRect }]) => {
    if (!figure.isConnected) {
      resized.disconnect();
      drawn.delete(plot);
      plot?.destroy();
    } else if (contentRect.width > 0) {
      const size = { width: Math.floor(contentRect.width), height: Math.floor(contentRect.height) };
      if (plot) plot.setSize(size);
      else
        drawn.add((plot = new uPlot(configuration({ ...options, label }, size, read), table(series, keys), plotHost)));
    }
  });
  resized.observe(plotHost);
  return figure;

  function configuration(given, size, onPlace) {
    return {
      ...size,
      legend: { show: false },
      padding: [10, 20, 0, 0],
      cursor: {
        y: false,
        drag: { x: false, y: false },
        points: { show: false },
        ...(together && { sync: { key: together, setSeries: false } }),
      },
      scales: {
        x: { time: false, range: () => [-0.6, Math.max(keys.length, 1) - 0.4] },
        y: { range: (_, low, high) => heights(given, low, high) },
      },
      axes: [xAxis(given), yAxis(given)],
      series: [{}, ...stacked(series).map(drawing)],
      bands: bands(series),
      hooks: {
        drawClear: [(u) => (given.flagged ?? []).forEach((place) => flag(u, place))],
        draw: [(u) => limit && limitLine(u, limit.value)],
        setCursor: [(u) => onPlace(u.cursor.idx ?? null)],
      },
    };
  }
}

function legend(series, limit) {
  const entries = series.map(({ name, colour, kind }) => [name, colour, kind === "edge"]);
  if (limit) entries.push([limit.name, "bad-line", true]);
  return element(
    "div",
    { class: "key" },
    entries.map(([name, colour, line]) =>
      element("span", {}, element("i", { class: `swatch swatch-${colour}${line ? " line" : ""}` }), name),
    ),
  );
}

/** Series with bars stacked: each shows the sum up to itself, the tallest is drawn first. */
function stacked(series) {
  const sums = [];
  return series
    .map((one) => {
      if (one.kind !== "bars") return { ...one, heights: one.values };
      const heights = one.values.map((value, place) => {
        if (known(value)) sums[place] = (sums[place] ?? 0) + value;
        return known(value) ? sums[place] : null;
      });
      return { ...one, heights };
    })
    .reverse();
}

const table = (series, keys) => [keys.map((_, place) => place), ...stacked(series).map(({ heights }) => heights)];

function drawing({ kind, colour: name }) {
  const ink = () => colour(name);
  if (kind === "bars")
    return { fill: ink, width: 0, paths: uPlot.paths.bars({ size: [0.72, 44] }), points: { show: false } };
  if (kind === "edge") return { stroke: ink, width: 1, dash: [4, 3], points: { show: false } };
  return { stroke: ink, width: 2, spanGaps: false, points: { show: true, size: 6, fill: ink, stroke: ink, width: 0 } };
}

function bands(series) {
  const edges = stacked(series).flatMap(({ kind }, place) => (kind === "edge" ? [place + 1] : []));
  return edges.length === 2
    ? [{ series: edges, fill: () => `color-mix(in oklab, ${colour("accent")} 14%, transparent)` }]
    : [];
}

function heights({ ceiling = 0, limit, fromZero = true }, low, high) {
  const top = Math.max(high ?? 0, limit?.value ?? 0, ceiling);
  if (!fromZero && known(low)) {
    const margin = (top - low || Math.abs(top) || 1) * 0.15;
    return [low - margin, top + margin];
  }
  return [0, top > 0 ? top * 1.12 : 1];
}

function xAxis({ keys, label }) {
  return {
    stroke: () => colour("fg-muted"),
    font: FONT,
    size: 26,
    gap: 4,
    grid: { show: false },
    ticks: { show: false },
    splits: (u) => {
      const room = Math.max(1, Math.floor((u.width - GUTTER_PIXELS) / LABEL_PIXELS));
      const step = Math.max(1, Math.ceil(keys.length / room));
      return keys.map((_, place) => place).filter((place) => (keys.length - 1 - place) % step === 0);
    },
    values: (_, places) => places.map((place) => label(keys[place], place)),
  };
}

function yAxis({ axis, whole }) {
  return {
    stroke: () => colour("fg-muted"),
    font: FONT,
    size: GUTTER_PIXELS,
    gap: 6,
    space: 34,
    incrs: whole ? WHOLE_STEPS : undefined,
    grid: { stroke: () => colour("grid"), width: 1 },
    ticks: { show: false },
    values: (_, values) => values.map((value) => axis(value)),
  };
}

/** A red column behind a place where something failed, with a mark at its top that is seen without colour too. */
function flag(u, place) {
  const { ctx, bbox } = u;
  const middle = u.valToPos(place, "x", true);
  const width = Math.max(u.valToPos(place + 0.5, "x", true) - u.valToPos(place - 0.5, "x", true), 3 * devicePixelRatio);
  ctx.save();
  ctx.fillStyle = colour("bad-bg");
  ctx.fillRect(middle - width / 2, bbox.top, width, bbox.height);
  const arm = Math.min(4 * devicePixelRatio, width / 2);
  const top = bbox.top + 7 * devicePixelRatio;
  ctx.strokeStyle = colour("bad-line");
  ctx.lineWidth = 2 * devicePixelRatio;
  ctx.beginPath();
  for (const side of [-1, 1]) {
    ctx.moveTo(middle - arm, top - side * arm);
    ctx.lineTo(middle + arm, top + side * arm);
  }
  ctx.stroke();
  ctx.restore();
}

function limitLine(u, value) {
  const { ctx, bbox } = u;
  const height = u.valToPos(value, "y", true);
  ctx.save();
  ctx.strokeStyle = colour("bad-line");
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, height);
  ctx.lineTo(bbox.left + bbox.width, height);
  ctx.stroke();
  ctx.restore();
}
