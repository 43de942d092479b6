/** Elements from code. Text is only ever text: nothing here parses markup. */

type Props = Record<string, string | number | boolean | null | undefined | ((event: never) => void)>;

/** An element with attributes, listeners (`onclick`), and children; `true` sets a bare attribute. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: (Node | string | null)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value as EventListener);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** A line drawing on a 20-unit grid; decoration only, so the button around it carries the name. */
export function icon(path: string): SVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

const polite = h("div", { class: "hidden", "aria-live": "polite" });

/** Tells people who listen to the page; for everybody else it is seen elsewhere. */
export function announce(message: string): void {
  if (!polite.isConnected) document.body.append(polite);
  polite.textContent = message;
}

const toasts = h("div", { class: "toasts", role: "status" });
let toastTimer = 0;

/** A line at the foot of the page for ten seconds, with at most one thing to do about it. */
export function toast(message: string, action?: { label: string; run: () => void }): void {
  if (!toasts.isConnected) document.body.append(toasts);
  clearTimeout(toastTimer);
  const close = (): void => toasts.replaceChildren();
  const button = action && h("button", { class: "quiet", onclick: () => (close(), action.run()) }, action.label);
  toasts.replaceChildren(h("div", { class: "toast" }, h("span", {}, message), button ?? null));
  toastTimer = window.setTimeout(function expire() {
    // Whoever is on the button keeps it.
    if (toasts.contains(document.activeElement)) toastTimer = window.setTimeout(expire, 2000);
    else close();
  }, 10_000);
}
