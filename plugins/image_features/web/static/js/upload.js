// A file of the viewer's own: chosen, dropped anywhere on the page, or pasted.

import { element, spoken } from "./dom.js";
import { bytes } from "./format.js";

const LARGEST_BYTES = 20 * 2 ** 20;

/** What to do with files that reach the page; set by the field that is shown. */
let receive = () => {};

/** The field for a file of a kind {noun, accept}; `chosen` gets the file. */
export function uploadField({ noun, accept }, chosen) {
  const problem = element("span", { class: "bad toned small", role: "alert" });
  const input = element("input", { type: "file", accept, class: "hidden-visually", "data-key": "upload" });
  receive = ([file]) => {
    if (!file) return;
    const tooLarge = file.size > LARGEST_BYTES;
    problem.textContent = tooLarge
      ? `${file.name} has ${bytes(file.size)}; at most ${bytes(LARGEST_BYTES)} are taken.`
      : "";
    if (!tooLarge) chosen(file);
  };
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // so that the same file can be chosen again
    receive(files);
  });
  return element(
    "div",
    { class: "upload push" },
    element("label", { class: "button" }, input, `Find a ${noun} of your own`, spoken(" among them")),
    element("span", { class: "muted small" }, "or drop it on this page; it is not kept"),
    problem,
  );
}

const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove("dropping");
  receive(event.dataTransfer.files);
});
addEventListener("paste", (event) => receive(event.clipboardData?.files ?? []));
