/**
 * While you were away: what others did to the text and what ours did, told once when the two have met, with a way
 * to look at each place, and to take one side back. Sentences that both sides edited are pointed out unasked: a
 * merge may be right to the letter and still say what nobody meant.
 */

import { RangeSet, RangeValue, StateEffect, StateField, type Extension, type Range } from "@codemirror/state";
import { Decoration, EditorView, WidgetType, type DecorationSet } from "@codemirror/view";
import * as Y from "yjs";
import { api, at, request } from "./api";
import "./away.css";
import type { Editor } from "./editor";
import { announce, h, icon, toast } from "./element";
import { joined, placesOf, type Meeting, type Piece, type Place } from "./meeting";
import { actor, inkFor, me, personOf, type Person } from "./person";
import type { Actor } from "./record";
import type { Replica } from "./replica";
import { t } from "./strings";
import { undo } from "./undo";

// A line that was down for less, and over which nothing of ours waited, is not worth a word.
const AWAY_MS = 30_000;
// So much of the end of the log is read to find out who it was; who is not found there is "others".
const CHUNK = 500;
const CHUNKS_LIMIT = 6;
const NAMED_LIMIT = 2;

const UP = "M5 12l5-5 5 5";
const DOWN = "M5 8l5 5 5-5";
const CLOSE = "M5 5l10 10M15 5L5 15";

/** A piece of a place, or with `both` a sentence that both sides edited; moved along by CodeMirror. */
class Mark extends RangeValue {
  constructor(
    readonly place: Place | null,
    readonly gone: string | null,
  ) {
    super();
    // What is typed at its edge is not part of it.
    if (gone === "") [this.startSide, this.endSide] = [1, -1];
  }
}

/** What went, struck through where it was. */
class Struck extends WidgetType {
  constructor(
    readonly text: string,
    readonly ink: string,
  ) {
    super();
  }

  override eq(other: Struck): boolean {
    return other.text === this.text && other.ink === this.ink;
  }

  toDOM(): HTMLElement {
    const struck = document.createElement("del");
    struck.className = "away-gone";
    struck.style.setProperty("--ink", this.ink);
    struck.textContent = this.text.replaceAll("\n", "\u00b6");
    return struck;
  }
}

interface Seen {
  marks: RangeSet<Mark>;
  decorations: DecorationSet;
}

/** A place to step to. */
interface Stop {
  place: Place | null;
  from: number;
  to: number;
}

/** Takes what each further meeting brought into the same note, until that is dismissed. */
export class Away {
  private meetings: Meeting[] = [];
  private places: Place[] = [];
  /** Whose a place is, once it is known. */
  private readonly people = new Map<Place, Person>();
  private names: string[] = [];
  private unnamed = false;
  private looking = false;
  private current: Stop | null = null;
  private asked = 0;
  private element: HTMLElement | null = null;
  private readonly words = h("p", {});
  private readonly ways = h("div", { class: "ways" });
  private readonly place = h("span", { class: "place" });
  private readonly changed = StateEffect.define<RangeSet<Mark>>();
  private readonly redraw = StateEffect.define<null>();
  private readonly field: StateField<Seen>;
  private installed = false;

  constructor(
    private readonly replica: Replica,
    private readonly writing: Editor,
    private readonly shelf: HTMLElement,
  ) {
    this.field = StateField.define<Seen>({
      create: () => ({ marks: RangeSet.empty, decorations: Decoration.none }),
      update: (seen, transaction) => {
        let { marks } = seen;
        let again = false;
        if (transaction.docChanged) marks = marks.map(transaction.changes);
        for (const effect of transaction.effects) {
          if (effect.is(this.changed)) [marks, again] = [effect.value, true];
          else if (effect.is(this.redraw)) again = true;
        }
        return { marks, decorations: again ? this.drawn(marks) : seen.decorations.map(transaction.changes) };
      },
      provide: (field) => EditorView.decorations.from(field, (seen) => seen.decorations),
    });
  }

  take(meeting: Meeting): void {
    this.meetings.push(meeting);
    const all = { mine: joined(this.meetings.map(({ mine }) => mine)), theirs: joined(this.meetings.map(({ theirs }) => theirs)) };
    const { text } = this.replica;
    const places = placesOf(text, all);
    const sentences = overlaps(text.toString(), places);
    const others = places.some(({ mine }) => !mine);
    const away = Date.now() - meeting.since;
    if (!this.element && sentences.length === 0 && !(others && (away > AWAY_MS || places.some(({ mine }) => mine)))) {
      this.meetings = [];
      return;
    }
    this.places = places;
    this.current = null;
    const made: Range<Mark>[] = places.flatMap((place) => place.pieces.map((piece) => new Mark(place, piece.gone).range(piece.from, piece.to)));
    for (const { from, to } of sentences) made.push(new Mark(null, "").range(from, to));
    const { view } = this.writing;
    if (!this.installed) view.dispatch({ effects: StateEffect.appendConfig.of(this.extension()) });
    this.installed = true;
    view.dispatch({ effects: this.changed.of(RangeSet.of(made, true)) });
    this.show();
    announce(this.words.textContent ?? "");
    void this.name();
  }

  private extension(): Extension {
    return [this.field];
  }

  private get marks(): RangeSet<Mark> {
    return this.writing.view.state.field(this.field).marks;
  }

  private get shown(): string {
    return this.writing.view.state.doc.toString();
  }

  /** Where one can step to now: sentences that both edited, then what others did, then what ours did; `whole`
   * also has what lies in such a sentence. */
  private stops(whole = false): Stop[] {
    const found = new Map<Place | Mark, Stop>();
    for (const cursor = this.marks.iter(); cursor.value; cursor.next()) {
      const { from, to, value } = cursor;
      const key = value.place ?? value;
      const known = found.get(key);
      if (known) [known.from, known.to] = [Math.min(known.from, from), Math.max(known.to, to)];
      else found.set(key, { place: value.place, from, to });
    }
    const sentences = [...found.values()].filter(({ place }) => place === null);
    const inOne = ({ from, to }: Stop): boolean => sentences.some((sentence) => from >= sentence.from && to <= sentence.to);
    const rank = ({ place }: Stop): number => (place === null ? 0 : place.mine ? 2 : 1);
    return [...found.values()].filter((stop) => stop.place === null || whole || !inOne(stop)).sort((a, b) => rank(a) - rank(b) || a.from - b.from);
  }

  private show(): void {
    if (!this.element) {
      this.element = h("section", { class: "away", "aria-label": t.away.title }, this.words, this.ways);
      this.element.addEventListener("keydown", (event) => event.key === "Escape" && (event.preventDefault(), this.dismiss()));
      this.shelf.append(this.element);
    }
    const stops = this.stops(true);
    const both = stops.filter(({ place }) => place === null).length;
    const theirs = stops.filter(({ place }) => place && !place.mine);
    const mine = stops.filter(({ place }) => place?.mine);
    const named = this.names.slice(0, this.names.length > NAMED_LIMIT + 1 ? NAMED_LIMIT : NAMED_LIMIT + 1);
    const said = [
      ...(theirs.length > 0 ? [t.away.theirs(named, this.names.length - named.length, this.unnamed || this.names.length === 0, theirs.length)] : []),
      ...(mine.length > 0 ? [t.away.mine(words(mine.flatMap(({ place }) => this.textOf(place as Place)).join(" ")), mine.length)] : []),
    ];
    const text = said.join(" ");
    if (this.words.textContent !== `${text}${both > 0 ? ` ${t.away.both(both)}` : ""}`) {
      this.words.replaceChildren(text, ...(both > 0 ? [" ", h("b", {}, t.away.both(both))] : []));
    }
    const focused = (document.activeElement as HTMLElement | null)?.dataset.way;
    const button = (way: string, label: string, run: () => void, ...content: (Node | string)[]): HTMLElement =>
      h("button", { class: content.length > 0 ? "tool" : "quiet", "data-way": way, "aria-label": content.length > 0 ? label : null, title: content.length > 0 ? label : null, onclick: run }, ...(content.length > 0 ? content : [label]));
    const takes = this.replica.writable && this.looking;
    this.ways.replaceChildren(
      ...(this.looking
        ? [
            button("previous", t.away.previous, () => this.step(-1), icon(UP)),
            button("next", t.away.next, () => this.step(1), icon(DOWN)),
            this.place,
          ]
        : [button("look", both > 0 ? t.away.lookBoth : t.away.look, () => this.look())]),
      ...(takes && this.canTakeBack(theirs) ? [button("theirs", t.away.takeBackTheirs, () => this.takeBack(false))] : []),
      ...(takes && this.canTakeBack(mine) ? [button("mine", t.away.takeBackMine, () => this.takeBack(true))] : []),
      button("dismiss", t.away.dismiss, () => this.dismiss(), icon(CLOSE)),
    );
    const way = focused === "look" ? "next" : focused;
    if (way) this.ways.querySelector<HTMLElement>(`[data-way="${way}"]`)?.focus();
  }

  private look(): void {
    this.looking = true;
    this.writing.view.dispatch({ effects: this.redraw.of(null) });
    this.show();
    this.step(1);
  }

  private step(by: 1 | -1): void {
    const stops = this.stops();
    if (stops.length === 0) return this.dismiss();
    const { current } = this;
    const known = current ? stops.findIndex(({ place, from }) => (place ? place === current.place : current.place === null && from === current.from)) : -1;
    const index = ((known < 0 && by < 0 ? 0 : known) + by + stops.length) % stops.length;
    const stop = (this.current = stops[index] as Stop);
    const { view } = this.writing;
    view.dispatch({ effects: [this.redraw.of(null), EditorView.scrollIntoView(stop.from, { y: "center" })] });
    this.place.textContent = t.away.stop(index + 1, stops.length);
    const said = stop.place === null ? t.away.bothSaid(this.shown.slice(stop.from, stop.to).trim()) : this.saidOf(stop.place);
    announce([this.place.textContent, said].join(". "));
  }

  private saidOf(place: Place): string {
    const who = place.mine ? t.away.you : (this.people.get(place)?.name ?? t.someone);
    const came = this.textOf(place);
    const gone = place.pieces.map((piece) => piece.gone ?? "").join("");
    return [...(came ? [t.changed(true, who, came)] : []), ...(gone ? [t.changed(false, who, gone)] : [])].join(" ");
  }

  /** What came there and still stands. */
  private textOf(place: Place): string {
    const found: string[] = [];
    const { doc } = this.writing.view.state;
    for (const cursor = this.marks.iter(); cursor.value; cursor.next()) {
      if (cursor.value.place === place && cursor.from < cursor.to) found.push(doc.sliceString(cursor.from, cursor.to));
    }
    return found.join("");
  }

  private canTakeBack(stops: Stop[]): boolean {
    return stops.length > 0 && stops.every(({ place }) => place?.pieces.every(({ gone }) => gone !== null));
  }

  /** As an edit of ours, like any other: what came goes, and what went comes again. */
  private takeBack(mine: boolean): void {
    const { view } = this.writing;
    const changes = [];
    const rest: Range<Mark>[] = [];
    for (const cursor = this.marks.iter(); cursor.value; cursor.next()) {
      const { from, to, value } = cursor;
      if (value.place?.mine === mine) changes.push({ from, to, insert: from === to ? (value.gone ?? "") : "" });
      else if (value.place) rest.push(value.range(from, to));
    }
    const set = view.state.changes(changes);
    view.dispatch({ changes: set, effects: this.changed.of(RangeSet.of(rest, true).map(set)), userEvent: "delete" });
    toast(mine ? t.away.tookMine : t.away.tookTheirs, { label: t.undo, run: () => void undo(view) });
    this.dismiss();
  }

  private dismiss(): void {
    const inside = this.element?.contains(document.activeElement);
    this.element?.remove();
    this.element = null;
    this.asked += 1;
    [this.meetings, this.places, this.names, this.unnamed, this.looking, this.current] = [[], [], [], false, false, null];
    this.people.clear();
    this.writing.view.dispatch({ effects: this.changed.of(RangeSet.empty) });
    if (inside) this.writing.view.contentDOM.focus();
  }

  private drawn(marks: RangeSet<Mark>): DecorationSet {
    const made: Range<Decoration>[] = [];
    for (const cursor = marks.iter(); cursor.value; cursor.next()) {
      const { from, to, value } = cursor;
      const { place } = value;
      const pointed = this.looking && (place ? place === this.current?.place : this.current?.place === null && from === this.current.from);
      if (place === null) {
        if (from < to) made.push(Decoration.mark({ class: pointed ? "away-both away-pointed" : "away-both", attributes: { title: t.away.bothTitle } }).range(from, to));
        continue;
      }
      if (!this.looking) continue;
      const person = place.mine ? me() : this.people.get(place);
      const ink = person?.color ?? "var(--soft)";
      const title = place.mine ? t.away.byYou : t.away.by(person?.name ?? t.someone);
      if (from < to) made.push(Decoration.mark({ tagName: "ins", class: pointed ? "away-came away-pointed" : "away-came", attributes: { style: `--ink: ${ink}`, title } }).range(from, to));
      else made.push(Decoration.widget({ widget: new Struck(value.gone ?? t.away.something, ink), side: 1 }).range(from));
    }
    return Decoration.set(made, true);
  }

  /** Finds out who the others were: from the history, for those who may read it; else from who is here. */
  private async name(): Promise<void> {
    const mine = ++this.asked;
    const theirs = this.places.filter((place) => !place.mine);
    const here = (place: Place): Person | null => {
      const people = [...place.clients].map((client) => personIn(this.replica, client));
      return people.length > 0 && people.every((person) => person !== null) ? (people[0] as Person) : null;
    };
    for (const place of theirs) {
      const person = here(place);
      if (person) this.people.set(place, person);
    }
    const names = new Set<string>([...this.people.values()].map(({ name }) => name));
    let unnamed = theirs.some((place) => !this.people.has(place));
    const tell = (): void => {
      if (mine !== this.asked || !this.element) return;
      [this.names, this.unnamed] = [[...names], unnamed];
      this.writing.view.dispatch({ effects: this.redraw.of(null) });
      this.show();
    };
    if (!this.replica.historian) return tell();
    try {
      const found = await doers(this.replica.name, theirs, () => mine === this.asked);
      if (mine !== this.asked) return;
      names.clear();
      for (const [place, actors] of found) {
        this.people.set(place, this.personFor(actors[0] as Actor));
        for (const each of actors) names.add(this.personFor(each).name);
      }
      unnamed = theirs.some((place) => !found.has(place));
    } catch (error) {
      // Those who are here are named, and the rest are others.
      console.info("not known who:", error);
    }
    tell();
  }

  private personFor(one: Actor): Person {
    if (one.id === actor()) return { ...me(), name: t.away.elsewhere };
    const { name } = personOf(one, 0);
    const here = [...this.replica.awareness.getStates()].map(([client, { user }]) => personOf(user, client)).find((other) => other.name === name);
    return personOf({ name, color: here?.color ?? inkFor(one.id, new Set([me().color])) }, 0);
  }
}

function personIn(replica: Replica, client: number): Person | null {
  const user = replica.awareness.getStates().get(client)?.user as unknown;
  return user ? personOf(user, client) : null;
}

interface Logged {
  seq: number;
  actor: Actor;
  client: number;
  data: string;
}

/** Who did what at these places, as the log has it, read from its end backwards; those not found are missing. */
async function doers(document: string, places: readonly Place[], wanted: () => boolean): Promise<Map<Place, Actor[]>> {
  const found = new Map<Place, Actor[]>();
  const typists = new Map<number, Actor>();
  let letters = places.flatMap((place) => place.letters.map((letter) => ({ ...letter, place })));
  const clients = new Set(places.flatMap((place) => [...place.clients]));
  const note = (place: Place, actor: Actor): void => {
    const known = found.get(place) ?? [];
    if (!known.some(({ id }) => id === actor.id)) found.set(place, [...known, actor]);
  };
  let { head: until } = await api.get(document);
  for (let chunks = 0; until > 0 && chunks < CHUNKS_LIMIT && wanted(); chunks++) {
    const begin = Math.max(0, until - CHUNK);
    for (let after = begin; after < until; ) {
      const query = new URLSearchParams({ after: String(after), limit: String(until - after) });
      const { updates, next } = await request<{ updates: Logged[]; next: number }>("GET", `${at(document)}/updates?${query}`);
      for (const { actor, client, data } of updates) {
        if (clients.has(client)) typists.set(client, actor);
        if (letters.length === 0) continue;
        const gone = Y.decodeUpdate(Uint8Array.from(atob(data), (char) => char.charCodeAt(0))).ds.clients;
        letters = letters.filter(({ client, clock, place }) => {
          const here = gone.get(client)?.some((one) => one.clock <= clock && clock < one.clock + one.len);
          if (here) note(place, actor);
          return !here;
        });
      }
      if (next <= after) break;
      after = next;
    }
    if (letters.length === 0 && typists.size === clients.size) break;
    until = begin;
  }
  for (const place of places) {
    for (const client of place.clients) {
      const actor = typists.get(client);
      if (actor) note(place, actor);
    }
  }
  return found;
}

const hasSegmenter = typeof Intl.Segmenter === "function";

/** How many words there are, also in languages that put no space between them. */
function words(text: string): number {
  if (!hasSegmenter) return text.match(/[\p{L}\p{N}]+/gu)?.length ?? 0;
  return [...new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)].filter(({ isWordLike }) => isWordLike).length;
}

/** The sentences that both sides edited: within a line, what Unicode calls one. */
export function overlaps(text: string, places: readonly Place[]): { from: number; to: number }[] {
  const touched = (side: boolean): Piece[] =>
    places.filter(({ mine }) => mine === side).flatMap(({ pieces }) => pieces.map((piece) => trimmed(text, piece)).filter((piece) => piece !== null));
  const [mine, theirs] = [touched(true), touched(false)];
  const found = new Map<number, { from: number; to: number }>();
  for (const piece of mine) {
    for (const sentence of sentencesAt(text, piece)) {
      if (!found.has(sentence.from) && theirs.some((other) => meets(other, sentence))) found.set(sentence.from, sentence);
    }
  }
  return [...found.values()].filter(({ from, to }) => from < to).sort((a, b) => a.from - b.from);
}

const meets = (piece: Piece, { from, to }: { from: number; to: number }): boolean =>
  piece.from === piece.to ? piece.from >= from && piece.from <= to : piece.from < to && piece.to > from;

/** Without the white space around it, which belongs to no sentence; null when there is nothing else. */
function trimmed(text: string, { from, to, gone }: Piece): Piece | null {
  if (from === to) return gone?.trim() === "" ? null : { from, to, gone };
  const piece = text.slice(from, to);
  const start = from + piece.length - piece.trimStart().length;
  const end = from + piece.trimEnd().length;
  return start < end ? { from: start, to: end, gone } : null;
}

function* sentencesAt(text: string, piece: Piece): Generator<{ from: number; to: number }> {
  let line = piece.from === 0 ? 0 : text.lastIndexOf("\n", piece.from - 1) + 1;
  while (line <= piece.to) {
    const next = text.indexOf("\n", line);
    const end = next === -1 ? text.length : next;
    for (const { from, to } of sentences(text.slice(line, end), line)) {
      // Of white space behind it a sentence has nothing to say.
      const sentence = { from, to: from + text.slice(from, to).trimEnd().length };
      if (meets(piece, sentence)) yield sentence;
    }
    line = end + 1;
  }
}

function sentences(line: string, at: number): { from: number; to: number }[] {
  if (!hasSegmenter) return [{ from: at, to: at + line.length }];
  const segments = new Intl.Segmenter(undefined, { granularity: "sentence" }).segment(line);
  return [...segments].map(({ index, segment }) => ({ from: at + index, to: at + index + segment.length }));
}
