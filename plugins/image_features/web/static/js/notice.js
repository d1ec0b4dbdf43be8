// A sentence with advice, in a box that cannot be missed.

import { element } from "./dom.js";
import { toneIcon } from "./status.js";

/** A notice of a tone (good, warning, bad, neutral); `more`: further nodes below the words. */
export function notice(tone, message, hint = "", ...more) {
  return element(
    "div",
    { class: `notice ${tone}` },
    toneIcon(tone),
    element("p", { class: "headline" }, message),
    hint && element("p", {}, hint),
    ...more,
  );
}

/** A refused request as a notice, which a screen reader reads at once. */
export function refusal(error) {
  const made = notice("bad", error.message, error.hint ?? "");
  made.setAttribute("role", "alert");
  return made;
}

/** The state of the store as a notice; null when it is well. */
export function storeNotice(store) {
  return store.code === "ok" ? null : notice("bad", store.message, store.hint);
}
