// What the drift is made of: our number beside a second opinion, and the photos that moved it most.

import { exploreAddress } from "./airflow.js";
import { element } from "./dom.js";
import { count, counted, fraction, significant } from "./format.js";
import { photoCard } from "./photo.js";

/** The panel; null where there is neither a second opinion nor a photo. Published photos lead to their neighbours. */
export function driftPanel({ drift, published, partition, model }, { dag, store }) {
  const { moved, second_opinion: second } = drift;
  if (moved.length === 0 && second === null) return null;
  const place = { dag, store, partition, model: model?.key };
  return element(
    "section",
    { "aria-labelledby": "drift" },
    element(
      "div",
      { class: "section-head" },
      element("h2", { id: "drift" }, "What the drift says"),
      element("p", { class: "muted" }, "two measures of one question: are these photos like those of the days before?"),
    ),
    element("dl", { class: "opinions" }, ours(drift), second && theirs(second)),
    moved.length > 0 && photos(moved, published, place),
  );
}

function ours({ value, limit, moved }) {
  const chance = moved.length > 0 ? "" : " No more than chance alone gives.";
  return opinion(
    "Drift",
    fraction(value),
    limit === null ? "" : `limit ${significant(limit)}`,
    "How far the vectors differ from those before in their lengths and along fixed directions, beyond chance: " +
      `0 not at all, 1 entirely.${chance}`,
  );
}

const NEAR_CHANCE = 0.55; // as far as 256 vectors on either side can say

function theirs({ auc, p, today, before }) {
  const told =
    auc < NEAR_CHANCE
      ? "A classifier cannot tell the photos of this run from those of the days before."
      : `A classifier tells a photo of this run from one of the days before in ${count(100 * auc)} of 100 pairs.`;
  const chance =
    p < 0.01
      ? "By chance two samples of one kind hardly ever differ as much"
      : `By chance two samples of one kind differ as much in ${count(100 * p)} of 100 cases`;
  return opinion(
    "Second opinion",
    significant(auc, 2),
    "AUC, 0.5 is chance",
    `${told} ${chance} ` +
      `(maximum mean discrepancy, p = ${significant(p, 2)}; ${count(today)} against ${counted(before, "photo")}).`,
  );
}

function opinion(name, figure, beside, words) {
  return element(
    "div",
    { class: "opinion" },
    element("dt", {}, name),
    element("dd", {}, element("span", { class: "figure" }, figure, " ", element("small", {}, beside))),
    element("dd", { class: "muted" }, words),
  );
}

function photos(moved, published, place) {
  const link = ({ image_id }) => (published ? { href: exploreAddress({ ...place, image: image_id }) } : null);
  const part = (photo) =>
    element(
      "span",
      { class: "photo-facts" },
      element("span", { class: "muted" }, "moved"),
      element("span", { class: "number" }, fraction(photo.moved)),
    );
  return element(
    "div",
    { class: "drift-photos" },
    element(
      "h3",
      { id: "moved" },
      "Photos that moved it most",
      element("span", { class: "muted" }, " each by so much; a photo like those of the days before by about 0"),
    ),
    element(
      "ul",
      { class: "photos moved", "aria-labelledby": "moved" },
      moved.map((photo) => photoCard(photo, place, { link: link(photo), more: part(photo) })),
    ),
  );
}
