/**
 * Two states of a text in one: what came in underlined and what went struck, each in its author's ink. Set by
 * the editor's own rules, read only, and drawn only where one looks, however long it is.
 */

import { EditorState, StateEffect, StateField, type Range } from "@codemirror/state";
import { Decoration, EditorView, WidgetType, highlightSpecialChars, type DecorationSet } from "@codemirror/view";
import type { Authors } from "./authors";
import { directions } from "./direction";
import { markdown } from "./markdown";
import type { Part } from "./record";
import { t } from "./strings";

/** Parts that stand side by side, between two that are kept. */
interface Change {
  from: number;
  to: number;
  parts: Part[];
}

/** An empty line that came or went has nothing to underline or strike. */
class LineEnd extends WidgetType {
  constructor(
    readonly op: Part["op"],
    readonly ink: string,
  ) {
    super();
  }

  override eq(other: LineEnd): boolean {
    return other.op === this.op && other.ink === this.ink;
  }

  toDOM(): HTMLElement {
    const sign = document.createElement(this.op === "insert" ? "ins" : "del");
    sign.setAttribute("aria-hidden", "true");
    sign.style.setProperty("--ink", this.ink);
    sign.textContent = "\u00b6";
    return sign;
  }
}

const marked = StateEffect.define<{ marks: Range<Decoration>[]; again: boolean }>();
const marks = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update: (set, transaction) => {
    for (const effect of transaction.effects) {
      if (effect.is(marked)) set = (effect.value.again ? Decoration.none : set).update({ add: effect.value.marks, sort: true });
    }
    return set;
  },
  provide: (field) => EditorView.decorations.from(field),
});

const pointed = StateEffect.define<Change | null>();
const pointer = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update: (set, transaction) => {
    for (const effect of transaction.effects) {
      if (!effect.is(pointed)) continue;
      const { from, to } = effect.value ?? { from: 0, to: 0 };
      set = from < to ? Decoration.set(Decoration.mark({ class: "pointed" }).range(from, to)) : Decoration.none;
    }
    return set;
  },
  provide: (field) => EditorView.decorations.from(field),
});

const NOBODY = "var(--soft)";

export class Comparison {
  readonly view: EditorView;
  private changes: Change[] = [];
  /** The number of the change that one has stepped to; -1: none yet. */
  private current = -1;
  private keepsLast = false;

  constructor(
    parent: HTMLElement,
    private readonly authors: Authors,
  ) {
    this.view = new EditorView({
      parent,
      state: EditorState.create({
        extensions: [
          EditorState.lineSeparator.of("\n"), // as in the editor
          EditorState.readOnly.of(true),
          EditorView.editable.of(false),
          EditorView.contentAttributes.of({ "aria-label": t.pastText, tabindex: "0" }),
          EditorView.lineWrapping,
          highlightSpecialChars(),
          markdown(),
          directions(),
          marks,
          pointer,
        ],
      }),
    });
  }

  get count(): number {
    return this.changes.length;
  }

  /** From 1; 0 when there is none. */
  get place(): number {
    return this.current + 1;
  }

  /** Shows these parts in the place of what was shown, from the first change on. */
  show(parts: Part[]): void {
    [this.changes, this.current, this.keepsLast] = [[], -1, false];
    this.draw(parts, 0, this.view.state.doc.length, true);
    if (this.count > 0) this.step(1);
    else this.view.dispatch({ effects: [pointed.of(null), EditorView.scrollIntoView(0)] });
  }

  /** The following page of what is shown. */
  append(parts: Part[]): void {
    const { length } = this.view.state.doc;
    this.draw(parts, length, length, false);
  }

  /** To the change `by` further on, round the end; says which, for `announce`. */
  step(by: number): string {
    if (this.count === 0) return t.noChanges;
    const from = this.current < 0 && by < 0 ? 0 : this.current;
    this.current = (from + by + this.count) % this.count;
    const change = this.changes[this.current] as Change;
    // The only one needs no pointing at, least of all when it is the whole text.
    const effect = pointed.of(this.count > 1 ? change : null);
    this.view.dispatch({ effects: [effect, EditorView.scrollIntoView(change.from, { y: "center" })] });
    const said = change.parts.map((part) => t.changed(part.op === "insert", this.authors.byId(part.actor)?.name ?? t.someone, part.text));
    return [t.changePlace(this.place, this.count, false), ...said].join(" ");
  }

  destroy(): void {
    this.view.destroy();
  }

  private draw(parts: Part[], at: number, to: number, again: boolean): void {
    const made: Range<Decoration>[] = [];
    let end = at;
    let last = again || this.keepsLast ? undefined : this.changes.at(-1);
    for (const part of parts) {
      const from = end;
      end += part.text.length;
      if (part.op === "keep") {
        last = undefined;
        continue;
      }
      if (last) {
        last.to = end;
        last.parts.push(part);
      } else this.changes.push((last = { from, to: end, parts: [part] }));
      const person = this.authors.byId(part.actor);
      const ink = person?.color ?? NOBODY;
      const title = person && part.at ? t.byWhom(person.name, new Date(part.at)) : "";
      const tagName = part.op === "insert" ? "ins" : "del";
      made.push(Decoration.mark({ tagName, attributes: { style: `--ink: ${ink}`, ...(title && { title }) } }).range(from, end));
      if (part.text.trim() === "" && part.text.includes("\n")) {
        const widget = new LineEnd(part.op, ink);
        made.push(Decoration.widget({ widget, side: 1 }).range(from + part.text.indexOf("\n")));
      }
    }
    this.keepsLast = last === undefined;
    const insert = parts.map((part) => part.text).join("");
    this.view.dispatch({ changes: { from: at, to, insert }, effects: marked.of({ marks: made, again }) });
  }
}
