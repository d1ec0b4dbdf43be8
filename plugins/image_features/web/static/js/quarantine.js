// The quarantined files: how many for which reason, what to do, and each with a picture if there is one.

import * as api from "./api.js";
import { element, fill, pager } from "./dom.js";
import { bytes, count, counted } from "./format.js";
import { refusal } from "./notice.js";
import { picture } from "./photo.js";

/** The panel; null when nothing was quarantined. `codes`: how many files for which reason. */
export function quarantinePanel(codes, place) {
  if (codes.length === 0) return null;
  const total = codes.reduce((sum, { count: files }) => sum + files, 0);
  const files = element("div", { class: "quarantined" }, element("p", { class: "muted" }, "Reading the list …"));
  load(files, place, 1);
  return element(
    "section",
    { "aria-labelledby": "quarantine" },
    element(
      "div",
      { class: "section-head" },
      element("h2", { id: "quarantine" }, "Quarantined files"),
      element("p", { class: "muted" }, `${counted(total, "file")} in quarantine; the others are not affected`),
    ),
    element("ul", { class: "reasons" }, codes.map(reason)),
    files,
  );
}

function reason({ code, count: files, hint }) {
  return element(
    "li",
    {},
    element("strong", { class: "number" }, count(files)),
    element("code", {}, code),
    element("span", { class: "muted" }, hint),
  );
}

async function load(host, place, page) {
  try {
    draw(host, await api.quarantine(place.dag, place.run, place.part, page), place);
  } catch (error) {
    fill(host, refusal(error));
  }
}

function draw(host, answer, place) {
  const { partition, files } = answer;
  const head = (text, kind) => element("th", { scope: "col", role: "columnheader", class: kind }, text);
  fill(
    host,
    element(
      "div",
      { class: "table-frame" },
      element(
        "table",
        { class: "cards", role: "table", "aria-labelledby": "quarantine" },
        element(
          "thead",
          { role: "rowgroup" },
          element(
            "tr",
            { role: "row" },
            head("Picture"),
            head("File"),
            head("Reason"),
            head("Stage"),
            head("Size", "number"),
          ),
        ),
        element(
          "tbody",
          { role: "rowgroup" },
          files.map((file) => fileRow(file, place, partition)),
        ),
      ),
    ),
    pager("quarantined files", answer, (page) => load(host, place, page)),
  );
}

function fileRow(file, place, partition) {
  const { name, code, message, stage, size_bytes, thumbnail, image_id } = file;
  const source = thumbnail && image_id ? api.thumbnail({ ...place, partition }, image_id) : null;
  return element(
    "tr",
    { role: "row" },
    element("td", { role: "cell", class: "thumb wide" }, picture(source, name)),
    element("th", { scope: "row", role: "rowheader", class: "wide file-name" }, name),
    element(
      "td",
      { role: "cell", class: "wide" },
      element("code", {}, code),
      element("span", { class: "below" }, message),
    ),
    element("td", { role: "cell", "data-label": "Stage" }, stage),
    element("td", { role: "cell", "data-label": "Size", class: "number" }, bytes(size_bytes)),
  );
}
