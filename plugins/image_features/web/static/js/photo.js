// A picture of a photo: its frame has its size before the picture is there, and stays when there is none.

import { thumbnail } from "./api.js";
import { element, icon } from "./dom.js";
import { count } from "./format.js";

const NO_PICTURE = "M4 4l16 16M9 4h9a2 2 0 0 1 2 2v9M4 9v9a2 2 0 0 0 2 2h12";

/** A frame with a picture from `source`; `alternative` is what it shows in words, empty when that stands beside it. */
export function picture(source, alternative = "") {
  const frame = element("span", { class: "picture" });
  const missing = () => {
    const words = alternative ? { role: "img", "aria-label": `No picture of ${alternative}` } : {};
    if (source !== null) words.title = "No picture: the file cannot be drawn, or is no longer where it was read.";
    frame.replaceChildren(element("span", { class: "no-picture", ...words }, icon(NO_PICTURE)));
  };
  if (source === null) missing();
  else
    frame.append(
      element("img", { src: source, alt: alternative, loading: "lazy", decoding: "async", onerror: missing }),
    );
  return frame;
}

/**
 * A photo with what is known of it: the end of its name, `more`, label and score. `link`: attributes of its link; null
 * where it leads nowhere.
 */
export function photoCard(photo, place, { link, current, more }) {
  const label = photo.label && element("span", { class: "label", title: photo.label }, photo.label);
  const score = Number.isFinite(photo.score) && element("span", { class: "number muted" }, `${count(100 * photo.score)} %`);
  return element(
    "li",
    { class: "photo" },
    element(
      link ? "a" : "span",
      { ...link, class: "photo-link", "aria-current": current ? "true" : null, "data-key": photo.image_id },
      picture(thumbnail(place, photo.image_id)),
      element("span", { class: "photo-name", title: photo.name }, photo.name.split("/").at(-1)),
    ),
    more,
    (label || score) && element("span", { class: "photo-facts" }, label, score),
    photo.copies > 1 && element("span", { class: "muted" }, `${photo.copies} copies`),
  );
}
