/** Every shortcut on one sheet. Who adds a key to the page adds it to the table here. */

import { actions } from "./actions";
import { modal } from "./dialog";
import { h } from "./element";
import "./shortcuts.css";
import { t } from "./strings";

const s = t.shortcuts;

/** Keys as CodeMirror writes them; where there are several, each does it. */
export interface Shortcut {
  keys: string[];
  does: string;
}

export interface Group {
  title: string;
  shortcuts: Shortcut[];
}

const mac = /Mac|iP/.test(navigator.platform);

const groups = (): Group[] => [
  {
    title: s.writing,
    shortcuts: [
      { keys: ["Mod-z"], does: t.undo },
      { keys: mac ? ["Mod-Shift-z"] : ["Mod-y", "Mod-Shift-z"], does: s.redo },
      { keys: ["Enter"], does: s.goOnList },
      { keys: ["Alt-ArrowUp", "Alt-ArrowDown"], does: s.moveLine },
      { keys: ["Shift-Alt-ArrowUp", "Shift-Alt-ArrowDown"], does: s.copyLine },
      { keys: ["Mod-Shift-k"], does: s.deleteLine },
      { keys: ["Mod-]", "Mod-["], does: s.indent },
    ],
  },
  {
    title: t.formatting,
    shortcuts: [
      ...actions.flatMap(({ name, key }) => (key && name !== "undo" && name !== "redo" ? [{ keys: [key], does: t.actions[name] }] : [])),
      { keys: ["/"], does: t.insert },
      { keys: ["Mod-Enter"], does: t.tickTask },
      { keys: ["Tab", "Shift-Tab"], does: t.tabs },
      { keys: ["Mod-Shift-v"], does: t.pastePlain },
    ],
  },
  {
    title: s.document,
    shortcuts: [
      { keys: ["Mod-f"], does: t.find },
      { keys: ["Mod-Alt-o"], does: t.outline },
      { keys: ["Mod-Alt-v"], does: t.nextView },
      { keys: ["Alt-F10"], does: t.toTools },
      { keys: ["Mod-Alt-a"], does: s.whoWrote },
      { keys: ["Mod-/"], does: s.thisSheet },
      { keys: ["Escape"], does: s.close },
      { keys: ["Enter"], does: s.titleDone },
    ],
  },
  {
    title: t.history,
    shortcuts: [
      { keys: ["Alt-ArrowDown", "Alt-ArrowUp"], does: s.changes },
      { keys: ["ArrowUp", "ArrowDown"], does: s.versions },
      { keys: ["ArrowLeft", "ArrowRight"], does: s.moments },
      { keys: ["Shift-ArrowLeft", "Shift-ArrowRight"], does: s.keystrokes },
    ],
  },
];

export function open(closed: () => void): HTMLDialogElement {
  const body = h("div", { class: "groups" }, ...groups().map(section));
  return modal("shortcuts", s.title, body, closed);
}

function section({ title, shortcuts }: Group): HTMLElement {
  const rows = shortcuts.map(({ keys, does }) => h("div", {}, h("dt", {}, does), h("dd", {}, ...keys.flatMap((key, n) => [n > 0 ? ` ${s.or} ` : "", chord(key)]))));
  return h("section", {}, h("h3", {}, title), h("dl", {}, ...rows));
}

/** Keys that are pressed together. */
function chord(key: string): HTMLElement {
  const parts = key.split(/-(?!$)/).map((part) => {
    const name = part === "Mod" ? (mac ? "Meta" : "Control") : part;
    const sign = (mac && s.macSigns[name]) || s.signs[name];
    const said = s.names[name] ?? part.toLocaleUpperCase();
    return h("kbd", {}, ...(sign ? [h("span", { "aria-hidden": "true" }, sign), h("span", { class: "hidden" }, said)] : [said]));
  });
  return h("span", { class: "chord" }, ...parts);
}
