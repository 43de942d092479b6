/** A sheet over the page that has the keyboard until it is closed. */

import "./dialog.css";
import { h, icon } from "./element";
import { t } from "./strings";

const CLOSE = "M5 5l10 10M15 5L5 15";

/**
 * Opens it at once; who had the keyboard before has it again when it closes, by whatever way. The browser sees to
 * that, at once: the event of the closing comes later, when somebody may be typing elsewhere.
 */
export function modal(name: string, title: string, body: HTMLElement, closed: () => void): HTMLDialogElement {
  const heading = h("h2", { id: `${name}-title`, tabindex: "-1", dir: "auto" }, title);
  const close = h("button", { class: "tool close", type: "button", "aria-label": t.close, title: t.close, onclick: () => dialog.close() }, icon(CLOSE));
  const dialog = h(
    "dialog",
    { class: `modal ${name}`, "aria-labelledby": `${name}-title`, closedby: "any", onclose: () => (dialog.remove(), closed()) },
    h("header", {}, heading, close),
    body,
  );
  document.body.append(dialog);
  dialog.showModal();
  if (!body.querySelector("[autofocus]")) heading.focus();
  return dialog;
}
