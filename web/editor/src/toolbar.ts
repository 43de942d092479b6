/** The row of tools: formats of the text, and ways to look at it. Loaded when the text is there to be written. */

import { Prec, StateEffect } from "@codemirror/state";
import type { EditorView } from "@codemirror/view";
import { action, actionKeys, activeAt, keyName, type Action } from "./actions";
import { said } from "./count";
import type { Editor } from "./editor";
import { h, icon } from "./element";
import { mode, type Mode } from "./preview";
import { t } from "./strings";
import "./toolbar.css";

const LOOK_MS = 120;
const PLUS = "M10 4v12M4 10h12";
const DOWN = "M7 8.5l3 3l3-3";
const FIND = "M9 3.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11M13 13l4 4";
const OUTLINE = "M4 5h12M7 10h9M7 15h9M3.6 10h.8M3.6 15h.8";
const MODES: [Mode, string][] = [
  ["source", "M6.5 6l-4 4l4 4M13.5 6l4 4l-4 4M11.5 4.5l-3 11"],
  ["live", "M4 16l.8-3.4L13.6 3.8l2.6 2.6L7.4 15.2zM11.8 5.6l2.6 2.6"],
  ["reading", "M2.5 10s2.8-5 7.5-5s7.5 5 7.5 5s-2.8 5-7.5 5s-7.5-5-7.5-5M10 7.8a2.2 2.2 0 1 0 0 4.4a2.2 2.2 0 0 0 0-4.4"],
];
export const MODE_KEY = "Mod-Alt-v";
const phone = matchMedia("(max-width: 40rem)");

type Name = Action["name"];
const GROUPS: Name[][] = [
  ["strong", "emphasis", "strike", "code", "link"],
  ["bullets", "numbers", "tasks", "quote"],
  ["fence", "table", "image", "rule"],
  ["undo", "redo"],
];
const HEADINGS: Name[] = ["paragraph", "heading1", "heading2", "heading3", "heading4"];

function described(label: string, key?: string): Record<string, string> {
  return { "aria-label": label, title: key ? `${label} (${keyName(key)})` : label };
}

/** One stop for the Tab key; arrows go on from there. */
function roving(bar: HTMLElement, leave: () => void): void {
  const stops = (): HTMLElement[] => [...bar.querySelectorAll<HTMLElement>("button:not([disabled])")].filter((each) => !each.closest("[role=menu]"));
  const settle = (stop?: HTMLElement): void => {
    const every = [...bar.querySelectorAll<HTMLElement>("button")].filter((each) => !each.closest("[role=menu]"));
    const chosen = stop ?? every.find((each) => each.tabIndex === 0 && !each.hasAttribute("disabled")) ?? stops()[0];
    for (const each of every) each.tabIndex = each === chosen ? 0 : -1;
  };
  settle();
  bar.addEventListener("focusin", (event) => {
    if (event.target instanceof HTMLElement && stops().includes(event.target)) settle(event.target);
  });
  bar.addEventListener("keydown", (event) => {
    const every = stops();
    const at = every.indexOf(document.activeElement as HTMLElement);
    if (at < 0) return;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: every.length - 1 }[event.key];
    if (event.key === "Escape") leave();
    else if (to === undefined) return;
    else every[(to + every.length) % every.length]?.focus();
    event.preventDefault();
  });
}

/** A list of actions under a button. */
function menu(button: HTMLButtonElement, view: EditorView, names: Name[]): HTMLElement {
  const items = names.map((name) => {
    const { key } = action(name);
    return h(
      "button",
      { role: "menuitemradio", class: `menu-${name}`, tabindex: -1, "data-name": name },
      h("span", {}, t.actions[name]),
      h("kbd", {}, key ? keyName(key) : ""),
    );
  });
  const list = h("div", { role: "menu", class: "menu", popover: "auto", "aria-label": button.getAttribute("aria-label") }, ...items);
  const run = (name: Name): void => {
    list.hidePopover();
    view.focus();
    action(name).run(view);
  };
  list.addEventListener("click", (event) => {
    const item = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-name]") : null;
    if (item) run(item.dataset.name as Name);
  });
  list.addEventListener("keydown", (event) => {
    const at = items.indexOf(document.activeElement as HTMLButtonElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined) items[(to + items.length) % items.length]?.focus();
    else if (event.key === "Escape" || event.key === "Tab") {
      list.hidePopover();
      button.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  list.addEventListener("toggle", (event) => button.setAttribute("aria-expanded", String((event as ToggleEvent).newState === "open")));
  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    const { left, top, bottom } = button.getBoundingClientRect();
    list.style.left = `${Math.max(8, Math.min(left, innerWidth - 240))}px`;
    // Above the button where it stands at the foot of the page.
    if (top > innerHeight / 2) [list.style.top, list.style.bottom] = ["auto", `${innerHeight - top + 6}px`];
    else [list.style.top, list.style.bottom] = [`${bottom + 6}px`, "auto"];
    // The keyboard goes there at once: the event of the opening comes later, when other keys may have come.
    list.togglePopover();
    if (!list.matches(":popover-open")) return;
    const active = activeAt(view.state);
    for (const item of items) item.setAttribute("aria-checked", String(active.has(item.dataset.name as string)));
    const chosen = items.find((item) => item.getAttribute("aria-checked") === "true") ?? items[0];
    chosen?.focus();
  });
  return list;
}

/** Fills the row; `under` is where the ways to look stand on a phone. */
export function toolbar(row: HTMLElement, under: HTMLElement, writing: Editor): void {
  const { view } = writing;
  view.dispatch({ effects: StateEffect.appendConfig.of(Prec.high(actionKeys)) });
  const buttons = new Map<Name, HTMLButtonElement>();
  const tool = (name: Name): HTMLElement => {
    const { key, letter, icon: path } = action(name);
    const face = letter ? h("span", { class: `letter ${name}`, "aria-hidden": "true" }, letter) : icon(path);
    const toggles = !["rule", "table", "image", "undo", "redo"].includes(name);
    const button = h("button", { class: "tool-button", ...described(t.actions[name], key), "aria-pressed": toggles ? "false" : null }, face);
    // The text keeps its selection, and a phone its keyboard.
    button.addEventListener("mousedown", (event) => event.preventDefault());
    button.addEventListener("click", (event) => {
      action(name).run(view);
      if (event.detail > 0) view.focus();
    });
    buttons.set(name, button);
    return button;
  };
  const more = h("button", { class: "tool-button", ...described(t.insert, "/"), "aria-haspopup": "listbox" }, icon(PLUS));
  more.addEventListener("mousedown", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    view.focus();
    void writing.offer();
  });
  const headings = h("button", { class: "tool-button heading-button", ...described(t.heading) }, h("span", { class: "letter", "aria-hidden": "true" }, "H"), icon(DOWN));
  headings.addEventListener("mousedown", (event) => event.preventDefault());
  const headingMenu = menu(headings, view, HEADINGS);
  const formats = h(
    "div",
    { class: "formats", role: "toolbar", "aria-label": t.formatting, "aria-orientation": "horizontal" },
    h("span", { class: "group" }, more, headings),
    ...GROUPS.map((names) => h("span", { class: "group" }, ...names.map(tool))),
  );

  const modes = MODES.map(([name, path]) => {
    const button = h("button", { class: "tool-button", "data-mode": name, "aria-pressed": "false", ...described(t.views[name], MODE_KEY) }, icon(path));
    button.addEventListener("click", () => writing.look(name));
    return button;
  });
  const find = h("button", { class: "tool-button", ...described(t.find, "Mod-f") }, icon(FIND));
  find.addEventListener("click", () => void writing.find());
  const outline = h("button", { class: "tool-button", ...described(t.outline, "Mod-Alt-o"), "aria-expanded": "false" }, icon(OUTLINE));
  outline.addEventListener("click", () => void writing.outline());
  const length = h("button", { class: "length", title: t.outline });
  length.addEventListener("click", () => void writing.outline());
  const ways = h(
    "div",
    { class: "ways-to-look", role: "toolbar", "aria-label": t.looking },
    length,
    h("span", { class: "group modes" }, ...modes),
    h("span", { class: "group" }, find, outline),
  );
  const leave = (): void => view.focus();
  roving(formats, leave);
  roving(ways, leave);
  row.append(formats, headingMenu);
  const place = (): void => (phone.matches ? under : row).append(ways);
  phone.addEventListener("change", place);
  place();

  let timer = 0;
  const look = (): void => {
    timer = 0;
    const { state } = view;
    const current = state.facet(mode);
    const writable = !state.readOnly;
    formats.hidden = !writable;
    row.classList.toggle("reads", !writable);
    for (const button of modes) button.setAttribute("aria-pressed", String(button.dataset.mode === current));
    const { short } = said(state);
    if (length.textContent !== short) length.textContent = short;
    outline.setAttribute("aria-expanded", String(writing.outlined));
    if (!writable) return;
    const active = activeAt(state);
    for (const [name, button] of buttons) {
      if (button.hasAttribute("aria-pressed")) button.setAttribute("aria-pressed", String(active.has(name)));
    }
    headings.classList.toggle("on", [...active].some((name) => name.startsWith("heading")));
    buttons.get("undo")?.toggleAttribute("disabled", !writing.undoable);
    buttons.get("redo")?.toggleAttribute("disabled", !writing.redoable);
  };
  writing.watch(() => (timer ||= window.setTimeout(look, LOOK_MS)));
  look();

  document.addEventListener("keydown", (event) => {
    if (event.key !== "F10" || !event.altKey) return;
    const bar = formats.hidden ? ways : formats;
    bar.querySelector<HTMLElement>("button[tabindex='0']")?.focus();
    event.preventDefault();
  });

  // Above the keyboard also where the browser lays that over the page.
  const { visualViewport } = window;
  const rise = (): void => {
    if (!visualViewport) return;
    const covered = innerHeight - visualViewport.height - visualViewport.offsetTop;
    row.style.setProperty("--keyboard", `${Math.max(0, covered)}px`);
  };
  visualViewport?.addEventListener("resize", rise);
  visualViewport?.addEventListener("scroll", rise);
}
