// The file that was asked about, and those nearest to it.

import { thumbnail } from "./api.js";
import { element } from "./dom.js";
import { count, duration, fraction } from "./format.js";
import { photoCard, picture } from "./photo.js";

/** The panel of an answer; `file` is the viewer's own when that was asked about. */
export function neighboursPanel(found, place, { linkTo, file, close }) {
  const { query, neighbours, searched, total, seconds, note } = found;
  const seen = searched < total ? `${count(searched)} of ${count(total)}` : count(total);
  return element(
    "section",
    { class: "panel neighbours", "aria-labelledby": "neighbours" },
    element(
      "div",
      { class: "query" },
      queryPicture(query, place, file),
      queryFacts(query, file),
      element("button", { type: "button", onclick: close }, "Back to all"),
    ),
    element(
      "div",
      {},
      element(
        "div",
        { class: "section-head" },
        element("h2", { id: "neighbours", tabindex: -1 }, "Nearest neighbours"),
        element("p", { class: "muted" }, `among ${seen} vectors, in ${duration(seconds)}`),
      ),
      note && element("p", { class: "muted" }, note),
      neighbours.length === 0 && element("p", { class: "muted" }, "There is nothing else in this partition."),
      element(
        "ol",
        { class: "photos" },
        neighbours.map((photo) => photoCard(photo, place, { link: linkTo(photo), more: nearness(photo) })),
      ),
    ),
  );
}

function queryPicture(query, place, file) {
  if (!file) return picture(thumbnail(place, query.image_id), query.name);
  const source = URL.createObjectURL(file);
  const frame = picture(source, file.name);
  frame.querySelector("img").addEventListener("load", () => URL.revokeObjectURL(source));
  return frame;
}

function queryFacts({ name, label, score, copies }, file) {
  return element(
    "dl",
    {},
    fact("File", file ? file.name : name),
    label !== null && fact("Label", score === null ? label : `${label}, ${count(100 * score)} %`),
    copies > 1 && fact("Copies", count(copies)),
    file && fact("Kept", "no: it was only looked at"),
  );
}

function fact(name, value) {
  return element("div", {}, element("dt", { class: "muted small" }, name), element("dd", {}, value));
}

/** Distance in words and as a bar, the longer the nearer. */
function nearness({ cosine, distance }) {
  const bar = element("span", { class: "nearness", "aria-hidden": "true" }, element("span"));
  bar.firstChild.style.width = `${Math.max(0, cosine) * 100}%`;
  return element(
    "span",
    { class: "small" },
    bar,
    element("span", { class: "number" }, `distance ${fraction(Math.max(0, distance))}`),
  );
}
