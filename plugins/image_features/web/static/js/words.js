// Words that say what a photo shows, for models that know words.

import { element } from "./dom.js";

const LONGEST = 500;

/** The field for words about files of a kind {noun}; `chosen` gets them. */
export function wordsField({ noun } = { noun: "file" }, words, chosen) {
  const input = element("input", {
    type: "search",
    maxlength: LONGEST,
    placeholder: "a red bicycle",
    value: words ?? "",
    "data-key": "words",
  });
  const submit = (event) => {
    event.preventDefault();
    const said = input.value.trim();
    if (said) chosen(said);
  };
  return element(
    "form",
    { class: "words", role: "search", onsubmit: submit },
    element("label", { class: "field" }, `What the ${noun} shows`, input),
    element("button", { type: "submit" }, "Search"),
  );
}
