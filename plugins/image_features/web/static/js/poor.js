// The poorest photos of the run: the blank, the darkest, the most blurred, each with its value.

import { exploreAddress } from "./airflow.js";
import * as api from "./api.js";
import { element, fill } from "./dom.js";
import { count, counted, significant } from "./format.js";
import { refusal } from "./notice.js";
import { photoCard } from "./photo.js";

const TITLES = { blank: "Blank", dark: "Darkest", blurred: "Most blurred" };

/** The panel; its photos lead to their neighbours. It hides itself where no photo was measured. */
export function poorPanel({ partition, model }, { dag, run, part, store }) {
  const kinds = element("div", { class: "poor" });
  const panel = element(
    "section",
    { "aria-labelledby": "poor" },
    element(
      "div",
      { class: "section-head" },
      element("h2", { id: "poor" }, "The poorest photos"),
      element("p", { class: "muted" }, "measured on the photo, whatever the model makes of it"),
    ),
    kinds,
  );
  load(panel, kinds, { dag, store, partition, model: model?.key }, run, part);
  return panel;
}

async function load(panel, host, place, run, part) {
  try {
    const { kinds, measured } = await api.poorPhotos(place.dag, run, part);
    panel.hidden = measured === 0;
    fill(
      host,
      kinds.map((kind) => kindPanel(kind, measured, place)),
    );
  } catch (error) {
    fill(host, refusal(error));
  }
}

function kindPanel({ kind, measure, limit, total, photos }, measured, place) {
  const link = ({ image_id }) => ({ href: exploreAddress({ ...place, image: image_id }) });
  const value = (photo) =>
    element(
      "span",
      { class: "photo-facts" },
      element("span", { class: "muted" }, measure),
      element("span", { class: "number" }, significant(photo.value)),
    );
  return element(
    "div",
    { class: "poor-kind" },
    element(
      "h3",
      { id: `poor-${kind}` },
      TITLES[kind] ?? kind,
      element(
        "span",
        { class: "muted" },
        ` ${count(total)} of ${counted(measured, "photo")} with ${measure} below ${significant(limit)}`,
      ),
    ),
    photos.length > 0 &&
      element(
        "ul",
        { class: "photos", "aria-labelledby": `poor-${kind}` },
        photos.map((photo) => photoCard(photo, place, { link: link(photo), more: value(photo) })),
      ),
  );
}
