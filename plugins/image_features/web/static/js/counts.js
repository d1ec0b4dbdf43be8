// Counts that add up: every file of the source is in exactly one place.

import { element } from "./dom.js";
import { bytes, count, percent } from "./format.js";

/** listed = featured + quarantined, and what the featured ones are made of. */
export function countsPanel({ counts, live, duplicates }) {
  const { listed, featured, quarantined } = counts;
  if (listed === null) return live ? null : element("p", { class: "muted" }, "No stage has counted any files.");
  const adds = featured !== null && quarantined !== null && listed === featured + quarantined;
  const figure = (value, name, tone) =>
    element(
      "div",
      { class: `figure ${tone ?? ""}` },
      element("dt", {}, name),
      element("dd", { class: "number" }, count(value)),
    );
  const sign = (text) => element("span", { class: "sign", "aria-hidden": "true" }, text);
  return element(
    "section",
    { class: "panel", "aria-labelledby": "counts" },
    element(
      "div",
      { class: "section-head" },
      element("h2", { id: "counts" }, "Files"),
      element("p", { class: "muted" }, `${bytes(counts.bytes)} in the source`),
    ),
    element(
      "dl",
      { class: "equation" },
      figure(listed, "listed"),
      element("div", { class: "sign-slot" }, sign(featured !== null && !adds ? "≠" : "=")),
      figure(featured, "featured"),
      element("div", { class: "sign-slot" }, sign("+")),
      figure(quarantined, `quarantined${share(quarantined, listed)}`, quarantined > 0 ? "warning toned" : null),
    ),
    featured !== null && composition(counts),
    duplicates?.tone === "neutral" && element("p", { class: "muted" }, duplicates.message),
  );
}

function share(part, whole) {
  return part && whole ? `, ${percent(part / whole)}` : "";
}

/** Featured files by where their vector came from. What is left over are copies of another file of the day. */
function composition({ featured, computed, reused, resumed }) {
  if (!featured || computed === null || reused === null) return null;
  const parts = [
    ["computed", computed, "accent", "the model ran on the file"],
    ["reused", reused, "accent-soft", "the vector of the same file was taken over"],
    ["resumed", resumed ?? 0, "resumed", "an earlier attempt of this run had done it"],
    ["copies", featured - computed - reused - (resumed ?? 0), "fg-faint", "the same bytes as another file of the day"],
  ].filter(([name, value]) => value > 0 || name === "computed" || name === "reused");
  const bar = element("div", { class: "stacked-bar", "aria-hidden": "true" });
  for (const [, value, colour] of parts) {
    const piece = element("span", { class: `fill-${colour}` });
    piece.style.flexGrow = String(Math.max(value, 0));
    bar.append(piece);
  }
  return element(
    "div",
    { class: "composition" },
    bar,
    element(
      "ul",
      { class: "key" },
      parts.map(([name, value, colour, meaning]) =>
        element("li", { title: meaning }, element("i", { class: `swatch fill-${colour}` }), `${count(value)} ${name}`),
      ),
    ),
  );
}
