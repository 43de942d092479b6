/** Who wrote what is selected, and when: read off the log by the server, so nobody can say it was another. */

import type { EditorView } from "@codemirror/view";
import * as Y from "yjs";
import { Refused } from "./api";
import { Authors } from "./authors";
import "./blame.css";
import { h } from "./element";
import { personOf } from "./person";
import { Record, type Blame } from "./record";
import type { Replica } from "./replica";
import { t } from "./strings";

const s = t.who;
// What is still on its way to the server has no author there.
const PATIENCE_MS = 8_000;
const TRIES = 5;
const EXCERPT = 280; // UTF-16 units that are shown in their inks
const MARGIN = 8;

class NotSaved extends Error {}

/** Somebody's part of what is selected. */
interface Part {
  actor: string;
  length: number;
  first: Date;
  last: Date;
  seq: number;
}

/** Says it beside the selection; `seeThen` opens the history at an entry. */
export function tell(replica: Replica, view: EditorView, seeThen: (seq: number) => void): void {
  const { from, to } = view.state.selection.main;
  if (from === to) return;
  const body = h("div", { role: "status" }, h("p", { class: "note" }, t.opening));
  const sheet = h("div", { class: "blame", popover: "auto", role: "dialog", "aria-label": s.title, tabindex: "-1" }, h("h2", {}, s.title), body);
  const before = document.activeElement;
  sheet.addEventListener("toggle", (event) => {
    if (event.newState !== "closed") return;
    const inside = sheet.contains(document.activeElement) || document.activeElement === document.body;
    sheet.remove();
    if (inside && before instanceof HTMLElement) before.focus();
  });
  document.body.append(sheet);
  sheet.showPopover();
  place(sheet, view, to);
  sheet.focus();
  const authors = new Authors(() => [...replica.awareness.getStates()].map(([client, { user }]) => personOf(user, client)));
  read(replica, from, to).then(
    ({ text, blame }) => {
      blame.actors.forEach((actor) => authors.person(actor));
      body.replaceChildren(excerpt(text, blame, authors), ...people(blame, authors, (seq) => (sheet.hidePopover(), seeThen(seq))));
      place(sheet, view, to);
      sheet.querySelector<HTMLElement>("button")?.focus();
    },
    (error: unknown) => {
      const said = error instanceof NotSaved ? s.notSaved : error instanceof Refused ? t.sentence(error.message) : t.unreachable;
      body.replaceChildren(h("p", { class: "note" }, said));
    },
  );
}

/** Below the end of the selection, or above it where there is no room. On a phone the style sheet knows better. */
function place(sheet: HTMLElement, view: EditorView, to: number): void {
  const end = view.coordsAtPos(to, -1);
  if (!end) return;
  const { offsetWidth: width, offsetHeight: height } = sheet;
  const left = Math.max(MARGIN, Math.min(end.left - width / 2, innerWidth - width - MARGIN));
  const below = end.bottom + MARGIN;
  const top = below + height + MARGIN > innerHeight ? Math.max(MARGIN, end.top - MARGIN - height) : below;
  sheet.style.left = `${left}px`;
  sheet.style.top = `${top}px`;
}

/** Asks about the same letters, wherever they are by the time that all of them are on the server. */
async function read(replica: Replica, from: number, to: number): Promise<{ text: string; blame: Blame }> {
  const { doc, text } = replica;
  const record = new Record(replica);
  const ends = [Y.createRelativePositionFromTypeIndex(text, from, 0), Y.createRelativePositionFromTypeIndex(text, to, -1)];
  let edits = 0;
  const count = (): number => ++edits;
  doc.on("update", count);
  try {
    for (let tries = 1; ; tries++) {
      if (!(await replica.saved(PATIENCE_MS))) throw new NotSaved();
      const before = edits;
      const [start, stop] = ends.map((end) => Y.createAbsolutePositionFromRelativePosition(end, doc)?.index ?? 0) as [number, number];
      const whole = text.toString();
      const [at, until] = [points(whole, start), points(whole, stop)];
      try {
        const blame = await record.blame(at, until);
        if (edits === before) return { text: whole.slice(start, stop), blame };
      } catch (error) {
        // Past the end of the text: the server has less by now than we thought.
        if (!(error instanceof Refused && error.status === 422) || edits === before) throw error;
      }
      if (tries === TRIES) throw new NotSaved();
    }
  } finally {
    doc.off("update", count);
  }
}

/** The server counts code points; CodeMirror and Yjs count UTF-16 units. */
function points(text: string, index: number): number {
  let count = 0;
  for (let unit = 0; unit < index; unit++) if ((text.charCodeAt(unit) & 0xfc00) !== 0xdc00) count++;
  return count;
}

/** The beginning of what is selected, each letter in the ink of who wrote it. */
function excerpt(text: string, blame: Blame, authors: Authors): HTMLElement {
  const shown = h("p", { class: "excerpt", dir: "auto" });
  let at = 0;
  for (const run of blame.runs) {
    if (at >= EXCERPT || at >= text.length) break;
    let end = at;
    for (let left = run.length; left > 0 && end < text.length; left--) end += (text.codePointAt(end) as number) > 0xffff ? 2 : 1;
    const piece = h("span", {}, text.slice(at, Math.min(end, EXCERPT)));
    piece.style.setProperty("--ink", authors.byId(run.actor)?.color ?? "var(--soft)");
    shown.append(piece);
    at = end;
  }
  if (text.length > EXCERPT) shown.append("…");
  return shown;
}

function people(blame: Blame, authors: Authors, seeThen: (seq: number) => void): HTMLElement[] {
  const parts = new Map<string, Part>();
  for (const run of blame.runs) {
    const [first, last] = [new Date(run.first_at), new Date(run.last_at)];
    const part = parts.get(run.actor);
    if (!part) parts.set(run.actor, { actor: run.actor, length: run.length, first, last, seq: run.seq });
    else {
      part.length += run.length;
      if (first < part.first) part.first = first;
      if (last > part.last) [part.last, part.seq] = [last, run.seq];
    }
  }
  const rows = [...parts.values()].sort((one, other) => other.length - one.length).map(({ actor, length, first, last, seq }) => {
    const known = blame.actors.find(({ id }) => id === actor);
    if (!known) return h("li", {});
    const see = h("button", { class: "quiet", type: "button", "aria-label": s.seeSaid(authors.person(known).name), onclick: () => seeThen(seq) }, s.see);
    const when = h("span", { class: "when" }, s.wrote(length), " · ", s.between(first, last));
    return h("li", {}, h("div", {}, authors.chip(known), when), see);
  });
  const rest = blame.next === null ? [] : [h("p", { class: "note" }, s.partly)];
  return [h("ul", {}, ...rows), ...rest];
}
