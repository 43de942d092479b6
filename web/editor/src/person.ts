/**
 * Who is writing: a name and an ink, kept in this browser, and the same of others as far as it can be trusted.
 * The name of who is signed in is the server's; a guest's is told to it, so that its log has what others see.
 */

import { api, Refused, signInAddress, type Me } from "./api";
import { h, toast } from "./element";
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
// The first line of a guest waits this long for the server to learn their name.
const PATIENCE_MS = 1_500;

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

/** What this browser keeps of its person. */
interface Kept extends Person {
  /** Whose name the server has: a guest's as they chose it, or an account's own. */
  known?: "guest" | "account";
}

let mine: Kept | null = null;
let recognised: Me | null = null;
const watchers = new Set<(person: Person) => void>();
const introductions = new Set<() => void>();

function stored(): Kept | null {
  try {
    const text = localStorage.getItem(KEY);
    if (!text) return null;
    const { known, ...person } = JSON.parse(text) as Record<string, unknown>;
    return { ...personOf(person, 0), ...((known === "guest" || known === "account") && { known }) };
  } catch {
    return null; // storage is off, or holds something else
  }
}

/** The person at this browser; made up, and kept, the first time. */
export function me(): Kept {
  if (!mine) {
    mine = stored();
    if (mine) show(mine);
    else become(inked(bird(), pick(INKS, random())[1]));
  }
  return mine as Kept;
}

const bird = (): string => pick(t.birds, random());

function become(person: Kept): void {
  mine = person;
  try {
    const { name, color, known } = person;
    localStorage.setItem(KEY, JSON.stringify({ name, color, known }));
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

/** Calls back when the server has learned another name of ours, or takes us for somebody else. */
export function watchIntroduced(watcher: () => void): void {
  introductions.add(watcher);
}

addEventListener("storage", (event) => {
  if (event.key !== KEY) return;
  const before = mine?.known;
  mine = stored() ?? mine;
  if (mine) show(mine);
  // Signed in, in another tab: from here on we write as that person.
  if (before !== "account" && mine?.known === "account") void meet(true).then(tell);
});

/** Whom the server takes us for, as far as it has said so. */
export const account = (): Me | null => (recognised?.signed_in ? recognised : null);

/** The server's id of who is at this browser, once it has said so. */
export const actor = (): string | null => recognised?.actor ?? null;

/** The ink of somebody of whom only an id is known: always the same, unless somebody else in view has it. */
export function inkFor(id: string, taken: ReadonlySet<string>): string {
  let hash = 0;
  for (const char of id) hash = (Math.imul(hash, 31) + (char.codePointAt(0) as number)) >>> 0;
  for (let step = 0; step < INKS.length; step++) {
    const [, ink] = pick(INKS, hash + step);
    if (!taken.has(ink)) return ink;
  }
  return pick(INKS, hash)[1];
}

/** Takes the server's word for who we are; a guest's own name goes before the one that the server has. */
export async function recognise(answer: Me): Promise<void> {
  recognised = answer;
  const name = clean(answer.name);
  const { color, known } = me();
  if (answer.signed_in) return become({ ...inked(name || me().name, color), known: "account" });
  // Signed out: the account's name goes with it.
  if (known === "account") become(inked(name || bird(), color));
  if (me().name !== name) {
    recognised = await api.nameMe(me().name);
    tell();
  }
  become({ ...me(), known: "guest" });
}

const tell = (): void => introductions.forEach((watcher) => watcher());

// What the server is asked and told about us, one after another: no answer comes after a later one.
let introduction: Promise<void> | null = null;

/** Asks who we are; once, unless `again`. It never raises: without an answer we stay who we were. */
export function meet(again = false): Promise<void> {
  if (again || !introduction) {
    introduction = (introduction ?? Promise.resolve())
      .then(api.me)
      .then(recognise)
      .catch(() => undefined)
      .finally(() => show(me()));
  }
  return introduction;
}

/** Asks whether the server, which took us for somebody who has signed in, does so no more. */
export async function hasLeft(): Promise<boolean> {
  if (!account()) return false;
  await meet(true);
  return !account();
}

/** Settles when the server knows our name, or shows no sign of learning it. */
export async function introduced(): Promise<void> {
  const meeting = meet();
  if (!me().known) await Promise.race([meeting, new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
}

function rename(name: string): void {
  introduction = meet().then(async () => {
    // Who we were until then may have been said while it was typed.
    become({ ...me(), ...inked(name, me().color) });
    if (name === (recognised && clean(recognised.name))) return;
    try {
      await recognise(await api.nameMe(name));
      tell();
    } catch (error) {
      if (error instanceof Refused) toast(t.failed(error.message));
      if (account()) become({ ...inked(clean(account()!.name), me().color), known: "account" });
    }
  });
}

/** A disc with initials in the person's ink. */
export function avatar(person: Person): HTMLElement {
  const words = person.name.split(/\s+/).slice(0, 2);
  const initials = words.map((word) => Array.from(word)[0] ?? "").join("");
  const disc = h("span", { class: "avatar", "aria-hidden": "true", "data-initials": initials.toLocaleUpperCase() });
  disc.style.setProperty("--ink", person.color);
  return disc;
}

/** One's own avatar, and under it the sheet that says who one is, and where name and ink are changed. */
export function myself(): Node[] {
  const button = h("button", { class: "me", popovertarget: "me", type: "button" });
  const name = h("input", { id: "my-name", maxlength: NAME_LIMIT, autocomplete: "nickname", spellcheck: "false" });
  const inks = INKS.map(([key, color]) => {
    const radio = h("input", {
      type: "radio",
      name: "ink",
      value: color,
      onchange: () => become({ ...me(), ...inked(me().name, color) }),
    });
    const label = h("label", { class: "ink", title: t.inks[key] }, radio, h("span", { class: "hidden" }, t.inks[key]));
    label.style.setProperty("--ink", color);
    return { radio, label };
  });
  name.addEventListener("input", () => {
    const wanted = clean(name.value);
    if (wanted) become({ ...me(), ...inked(wanted, me().color) });
  });
  name.addEventListener("change", () => rename(clean(name.value) || me().name));
  const standing = h("div", { class: "standing" });
  const sheet = h(
    "form",
    { id: "me", class: "sheet", popover: "auto", onsubmit: (event: Event) => (event.preventDefault(), sheet.hidePopover()) },
    h("label", { for: "my-name" }, t.yourName),
    name,
    h("fieldset", {}, h("legend", {}, t.yourInk), h("div", { class: "inks" }, ...inks.map((ink) => ink.label))),
    standing,
  );
  let shown: Me | null = null;
  sheet.addEventListener("toggle", (event) => {
    if (event.newState === "open") {
      if (matchMedia("(pointer: fine)").matches) name.select();
    } else {
      name.value = me().name;
      standing.replaceChildren(...standingOf(recognised));
    }
  });
  watchMe((person) => {
    button.replaceChildren(avatar(person));
    button.setAttribute("aria-label", t.you(person.name));
    button.title = person.name;
    if (document.activeElement !== name) name.value = person.name;
    for (const ink of inks) ink.radio.checked = ink.radio.value === person.color;
    name.readOnly = recognised?.how === "token";
    if (shown !== recognised) standing.replaceChildren(...standingOf((shown = recognised)));
  });
  void meet();
  return [button, sheet];
}

/** As whom we are here, and the way to be somebody else. */
function standingOf(mine: Me | null): Node[] {
  if (!mine) return [];
  if (!mine.signed_in) return [h("p", {}, t.guest), h("a", { class: "quiet", href: signInAddress() }, t.signIn)];
  const said = h("p", {}, t.signedIn, h("b", {}, mine.email ?? mine.name));
  if (mine.how !== "account") return [said];
  let warned = false;
  const leave = async (): Promise<void> => {
    // Not in the first load: it brings Yjs along.
    const { forget, unsent } = await import("./local");
    const edits = await unsent();
    if (edits > 0 && !warned) {
      warned = true;
      said.textContent = t.signOutKeeps(edits);
      button.textContent = t.signOutStill;
      return;
    }
    try {
      await api.signOut();
      await meet(true);
      // Who sits here next should not read it; but what nobody else has is not thrown away.
      if (edits === 0) await forget();
      location.assign("/sign-in");
    } catch (error) {
      toast(error instanceof Refused ? t.failed(error.message) : t.unreachable);
    }
  };
  const button = h("button", { class: "quiet", type: "button", onclick: () => void leave() }, t.signOut);
  return [said, button];
}
