// The file that was asked about, and those nearest to it.

import { thumbnail } from "./api.js";
import { element, pager } from "./dom.js";
import { count, counted, duration, fraction } from "./format.js";
import { photoCard, picture } from "./photo.js";

/** The panel of an answer; `file` is the viewer's own when that was asked about. */
export function neighboursPanel(found, place, { linkTo, file, close, turn }) {
  const { query, neighbours, note, page, more } = found;
  const days = grouped(neighbours);
  const card = (photo) =>
    photoCard(photo, { ...place, partition: photo.partition }, { link: linkTo(photo), more: nearness(photo) });
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
        element("p", { class: "muted" }, comparedWords(found)),
      ),
      [note, ...cautions(found)].filter(Boolean).map((words) => element("p", { class: "muted" }, words)),
      neighbours.length === 0 && element("p", { class: "muted" }, "There is nothing else that was searched."),
      [...days].map(([day, photos]) => [
        days.size > 1 || day !== place.partition
          ? element("h3", { class: "day" }, day, element("span", { class: "muted small" }, counted(photos.length, "photo")))
          : null,
        element("ol", { class: "photos" }, photos.map(card)),
      ]),
      pager("neighbours", { page, more, back: "Nearer", forth: "Further" }, turn),
    ),
  );
}

/** Partition → its photos, in the order of the first of each. */
function grouped(photos) {
  const found = new Map();
  for (const photo of photos) found.set(photo.partition, [...(found.get(photo.partition) ?? []), photo]);
  return found;
}

/** What was compared, and whether all of it. */
function comparedWords({ searched, total, seconds, compared }) {
  const { first, last, partitions, exact, index } = compared;
  const seen = searched < total ? `${count(searched)} of ${count(total)}` : count(total);
  const span = first === last ? first : `${first} to ${last}`;
  const where = partitions === 0 ? "no partition" : partitions === 1 ? span : `${counted(partitions, "partition")}, ${span}`;
  const how = exact ? "all of them compared" : index === "ok" ? "chosen by the search index, distances exact" : "";
  return [`among ${seen} vectors of ${where}`, how, `in ${duration(seconds)}`].filter(Boolean).join(", ");
}

/** What a viewer should know of partitions that were left out. */
function cautions({ compared: { index, behind_partitions, behind_rows } }) {
  const words = {
    none: "Only this partition was searched: the model has no search index yet. The task index makes it.",
    unavailable: "Only this partition was searched: the search index cannot be read here. The api-server's log says why.",
  };
  const behind =
    behind_partitions > 0 &&
    `Left out: ${counted(behind_partitions, "partition")} with ${counted(behind_rows, "vector")}, for which the search ` +
      "index is behind. The task index brings them in.";
  return [words[index], behind];
}

function queryPicture(query, place, file) {
  if (!file && !query.image_id) return element("p", { class: "said" }, `“${query.name}”`);
  if (!file) return picture(thumbnail(place, query.image_id), query.name);
  const source = URL.createObjectURL(file);
  const frame = picture(source, file.name);
  frame.querySelector("img").addEventListener("load", () => URL.revokeObjectURL(source));
  return frame;
}

function queryFacts({ image_id, name, label, score, copies }, file) {
  return element(
    "dl",
    {},
    (file || image_id) && fact("File", file ? file.name : name),
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
