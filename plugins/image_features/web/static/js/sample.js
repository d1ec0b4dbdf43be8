// A few photos of the run, drawn at random: the quickest way to see what the model saw.

import { exploreAddress } from "./airflow.js";
import * as api from "./api.js";
import { element, fill } from "./dom.js";
import { refusal } from "./notice.js";
import { photoCard } from "./photo.js";

const PHOTOS = 12;

/** The panel; its photos lead to their neighbours. */
export function samplePanel({ partition, model }, { dag, run, part, store }) {
  const grid = element("ul", { class: "photos sample", "aria-label": "A sample" });
  load(grid, { dag, store, partition, model: model?.key }, run, part);
  return element(
    "section",
    { "aria-labelledby": "sample" },
    element(
      "div",
      { class: "section-head" },
      element("h2", { id: "sample" }, "A sample"),
      element("p", { class: "muted" }, "drawn at random; pick one to see its neighbours"),
    ),
    grid,
  );
}

async function load(grid, place, run, part) {
  try {
    const { photos } = await api.sample(place.dag, run, part, PHOTOS);
    const link = ({ image_id }) => ({ href: exploreAddress({ ...place, image: image_id }) });
    fill(
      grid,
      photos.map((photo) => photoCard(photo, place, { link: link(photo) })),
    );
    if (photos.length === 0) fill(grid, element("li", { class: "muted" }, "Nothing to show."));
  } catch (error) {
    fill(grid, element("li", { class: "whole-row" }, refusal(error)));
  }
}
