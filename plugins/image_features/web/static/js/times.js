// Where the time went: a bar for each stage, cut into phases.

import { element } from "./dom.js";
import { duration } from "./format.js";

/** Phases by what they are: getting ready, moving bytes, or the work itself. */
const KINDS = [
  { name: "getting ready", colour: "fg-faint", phases: ["startup", "session", "model"] },
  {
    name: "reading, planning and writing",
    colour: "accent-soft",
    phases: ["list", "read", "plan", "copy", "history", "publish"],
  },
  { name: "computing and checking", colour: "accent", phases: ["compute", "recheck", "check"] },
];
const OTHER = { name: "other", colour: "border", phases: [] };

/** The bars on one scale; null before the first stage is done. */
export function timesPanel(stages) {
  const timed = stages.filter(({ total_seconds }) => total_seconds !== null);
  if (timed.length === 0) return null;
  const longest = Math.max(...timed.map(({ total_seconds }) => total_seconds));
  const total = timed.reduce((sum, { total_seconds }) => sum + total_seconds, 0);
  const used = new Set(timed.flatMap((stage) => phases(stage).map(([name]) => kindOf(name))));
  return element(
    "section",
    { class: "panel", "aria-labelledby": "times" },
    element(
      "div",
      { class: "section-head" },
      element("h2", { id: "times" }, "Where the time went"),
      element("p", { class: "muted" }, `${duration(total)} in all, without what Airflow waits in between`),
    ),
    element(
      "dl",
      { class: "times" },
      timed.map((stage) => stageBar(stage, longest)),
    ),
    element(
      "ul",
      { class: "key" },
      [...KINDS, OTHER]
        .filter((kind) => used.has(kind))
        .map(({ name, colour }) => element("li", {}, element("i", { class: `swatch fill-${colour}` }), name)),
    ),
  );
}

function stageBar(stage, longest) {
  const bar = element("div", { class: "stacked-bar", "aria-hidden": "true" });
  bar.style.width = `${(100 * stage.total_seconds) / longest}%`;
  const words = [];
  for (const [name, seconds] of phases(stage)) {
    const piece = element("span", { class: `fill-${kindOf(name).colour}`, title: `${name} ${duration(seconds)}` });
    piece.style.flexGrow = String(seconds);
    bar.append(piece);
    words.push(element("li", {}, name, " ", element("span", { class: "number" }, duration(seconds))));
  }
  return element(
    "div",
    { class: "time" },
    element("dt", {}, stage.name, element("span", { class: "number" }, duration(stage.total_seconds))),
    element("dd", {}, element("div", { class: "track" }, bar), element("ul", { class: "phases" }, words)),
  );
}

/** [phase, seconds] in their order, and what they leave over. */
function phases({ seconds, total_seconds }) {
  const known = Object.entries(seconds);
  const rest = total_seconds - known.reduce((sum, [, value]) => sum + value, 0);
  return rest > 0.05 ? [...known, ["other", rest]] : known;
}

function kindOf(phase) {
  return KINDS.find(({ phases: names }) => names.includes(phase)) ?? OTHER;
}
