/** A way to ask who wrote what is selected, beside the selection and by a key. */

import type { EditorView } from "@codemirror/view";
import { h, icon, toast } from "./element";
import type { Replica } from "./replica";
import { t } from "./strings";

// One who is still selecting wants no button in the way.
const REST_MS = 350;
const GAP = 12;
const PERSON = "M10 4a3 3 0 1 0 0 6a3 3 0 1 0 0-6M4 17c.4-3.4 2.8-5 6-5s5.6 1.6 6 5";

export function asking(replica: Replica, view: EditorView, page: HTMLElement, seeThen: (seq: number) => void): void {
  let timer = 0;
  const ask = (): void => {
    button.hidden = true;
    import("./blame").then(
      ({ tell }) => tell(replica, view, seeThen),
      () => toast(t.unreachable), // asked for once more at the next click
    );
  };
  const button = h("button", { class: "who", type: "button", hidden: true, title: t.who.title, onclick: ask }, icon(PERSON), h("span", {}, t.who.ask));
  // The selection stays what it was.
  button.addEventListener("mousedown", (event) => event.preventDefault());
  page.append(button);

  const possible = (): boolean => replica.historian && !view.state.selection.main.empty && !page.inert && !page.hidden;
  const offer = (): void => {
    const here = document.activeElement === button || view.contentDOM.contains(document.getSelection()?.focusNode ?? null);
    const end = here && possible() && !view.composing ? view.coordsAtPos(view.state.selection.main.to, -1) : null;
    button.hidden = end === null;
    if (!end) return;
    const [sheet, text] = [page.getBoundingClientRect(), view.dom.getBoundingClientRect()];
    // In the margin where there is one, else under the selection.
    const margin = sheet.right - text.right > button.offsetWidth + 2 * GAP;
    button.style.top = `${(margin ? (end.top + end.bottom - button.offsetHeight) / 2 : end.bottom + GAP / 2) - sheet.top}px`;
    button.style.right = margin ? "auto" : `${sheet.right - text.right}px`;
    button.style.left = margin ? `${text.right - sheet.left + GAP}px` : "auto";
  };
  document.addEventListener("selectionchange", () => {
    clearTimeout(timer);
    if (!possible()) button.hidden = true;
    timer = window.setTimeout(offer, REST_MS);
  });
  document.addEventListener("keydown", (event) => {
    const chord = (event.ctrlKey || event.metaKey) && event.altKey && !event.shiftKey && !event.getModifierState("AltGraph");
    // With Alt, a Mac says which letter it would write.
    if (!chord || !(event.key.toLowerCase() === "a" || (event.code === "KeyA" && !/^[a-z]$/i.test(event.key)))) return;
    if (!possible() || !view.hasFocus) return;
    event.preventDefault();
    ask();
  });
}
