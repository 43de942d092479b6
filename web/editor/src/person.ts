/** Who is writing: a name and an ink, kept in this browser, and the same of others as far as it can be trusted. */

import { h } from "./element";
import { t } from "./strings";

/** What awareness carries as `user`, the shape other Yjs editors read. */
export interface Person {
  name: string;
  color: string;
  colorLight: string;
}

// Each at least 4.5:1 against white, the colour of the name on a caret.
const INKS: [keyof typeof t.inks, string][] = [
  ["madder", "#b5303d"],
  ["cobalt", "#3f66c4"],
  ["verdigris", "#1c7a6c"],
  ["ochre", "#95620d"],
  ["plum", "#8c3f96"],
  ["moss", "#55751c"],
  ["umber", "#8c5239"],
  ["slate", "#566b85"],
];
const KEY = "collab.person";
const NAME_LIMIT = 40;

const inked = (name: string, color: string): Person => ({ name, color, colorLight: `${color}33` });
const pick = <T>(from: readonly T[], n: number): T => from[n % from.length] as T;
const random = (): number => crypto.getRandomValues(new Uint32Array(1))[0] as number;

/** A person as read from a stranger: a name of bounded length without control characters, a plain colour. */
export function personOf(user: unknown, client: number): Person {
  const given = (typeof user === "object" && user !== null ? user : {}) as Record<string, unknown>;
  const name = typeof given.name === "string" ? clean(given.name) : "";
  const color = typeof given.color === "string" && /^#[0-9a-f]{6}$/i.test(given.color) ? given.color : null;
  return inked(name || t.someone, color ?? pick(INKS, client)[1]);
}

function clean(name: string): string {
  // Control, format (bidirectional overrides) and line characters could forge what stands beside a name.
  return Array.from(name.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, " ").trim()).slice(0, NAME_LIMIT).join("");
}

let mine: Person | null = null;
const watchers = new Set<(person: Person) => void>();

function stored(): Person | null {
  try {
    const text = localStorage.getItem(KEY);
    return text ? personOf(JSON.parse(text), 0) : null;
  } catch {
    return null; // storage is off, or holds something else
  }
}

/** The person at this browser; made up, and kept, the first time. */
export function me(): Person {
  if (!mine) {
    mine = stored();
    if (mine) show(mine);
    else become(inked(pick(t.birds, random()), pick(INKS, random())[1]));
  }
  return mine as Person;
}

function become(person: Person): void {
  mine = person;
  try {
    localStorage.setItem(KEY, JSON.stringify({ name: person.name, color: person.color }));
  } catch {
    // it lasts as long as the page
  }
  show(person);
}

function show(person: Person): void {
  document.documentElement.style.setProperty("--mine", person.color);
  for (const watcher of watchers) watcher(person);
}

/** Calls back now and whenever the person changes, also in another tab. */
export function watchMe(watcher: (person: Person) => void): void {
  watchers.add(watcher);
  watcher(me());
}

addEventListener("storage", (event) => {
  if (event.key !== KEY) return;
  mine = stored() ?? mine;
  if (mine) show(mine);
});

/** A disc with initials in the person's ink. */
export function avatar(person: Person): HTMLElement {
  const words = person.name.split(/\s+/).slice(0, 2);
  const initials = words.map((word) => Array.from(word)[0] ?? "").join("");
  const disc = h("span", { class: "avatar", "aria-hidden": "true", "data-initials": initials.toLocaleUpperCase() });
  disc.style.setProperty("--ink", person.color);
  return disc;
}

/** One's own avatar, and under it the sheet where name and ink are changed. */
export function myself(): Node[] {
  const button = h("button", { class: "me", popovertarget: "me", type: "button" });
  const name = h("input", { id: "my-name", maxlength: NAME_LIMIT, autocomplete: "nickname", spellcheck: "false" });
  const inks = INKS.map(([key, color]) => {
    const radio = h("input", {
      type: "radio",
      name: "ink",
      value: color,
      onchange: () => become(inked(me().name, color)),
    });
    const label = h("label", { class: "ink", title: t.inks[key] }, radio, h("span", { class: "hidden" }, t.inks[key]));
    label.style.setProperty("--ink", color);
    return { radio, label };
  });
  name.addEventListener("input", () => {
    const wanted = clean(name.value);
    if (wanted) become(inked(wanted, me().color));
  });
  const sheet = h(
    "form",
    { id: "me", class: "sheet", popover: "auto", onsubmit: (event: Event) => (event.preventDefault(), sheet.hidePopover()) },
    h("label", { for: "my-name" }, t.yourName),
    name,
    h("fieldset", {}, h("legend", {}, t.yourInk), h("div", { class: "inks" }, ...inks.map((ink) => ink.label))),
  );
  sheet.addEventListener("toggle", (event) => {
    if (event.newState === "open") name.select();
    else name.value = me().name;
  });
  watchMe((person) => {
    button.replaceChildren(avatar(person));
    button.setAttribute("aria-label", t.you(person.name));
    button.title = person.name;
    if (document.activeElement !== name) name.value = person.name;
    for (const ink of inks) ink.radio.checked = ink.radio.value === person.color;
  });
  return [button, sheet];
}
