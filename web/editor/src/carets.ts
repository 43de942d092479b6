/**
 * Carets, selections and names of the others, in the awareness fields that y-codemirror.next uses.
 *
 * Its own plugin writes a stranger's colour into a style attribute and throws on a position that is none;
 * here everything that came over the network is checked first.
 */

import { Annotation, RangeSet, type Extension, type Range } from "@codemirror/state";
import { Decoration, EditorView, ViewPlugin, WidgetType, type DecorationSet, type ViewUpdate } from "@codemirror/view";
import type { Awareness } from "y-protocols/awareness";
import * as Y from "yjs";
import { personOf, type Person } from "./person";
import { placeAt } from "./place";

const moved = Annotation.define<true>();
// A place in a long text costs time to name; after a key the frame comes first.
const PUBLISH_MS = 40;
// A name is shown while its caret moves, and then gets out of the way.
const NAME_MS = 2_500;

class Caret extends WidgetType {
  constructor(
    readonly client: number,
    readonly person: Person,
    readonly since: number,
  ) {
    super();
  }

  override eq(other: Caret): boolean {
    return (
      other.client === this.client &&
      other.since === this.since &&
      other.person.name === this.person.name &&
      other.person.color === this.person.color
    );
  }

  toDOM(): HTMLElement {
    const caret = document.createElement("span");
    caret.className = "caret";
    caret.setAttribute("aria-hidden", "true"); // said when they arrive, not in the middle of a sentence
    caret.style.setProperty("--ink", this.person.color);
    const name = document.createElement("span");
    name.className = "caret-name";
    name.textContent = this.person.name;
    // What is left of its time, for a caret that is drawn again.
    name.style.animationDelay = `${NAME_MS - (Date.now() - this.since)}ms`;
    // Word joiners keep the caret from opening a line break.
    caret.append("\u2060", name, "\u2060");
    return caret;
  }

  override ignoreEvent(): boolean {
    return true;
  }
}

/** Where in the text a stranger's relative position is now, or null if what they sent is no place in it. */
export function positionOf(sent: unknown, text: Y.Text): number | null {
  try {
    const relative = Y.createRelativePositionFromJSON(sent);
    const found = Y.createAbsolutePositionFromRelativePosition(relative, text.doc as Y.Doc);
    return found?.type === text ? Math.min(found.index, text.length) : null;
  } catch {
    return null;
  }
}

/** Where a stranger's selection is in the text now, or null if they have none that is a place in it. */
export function selectionOf(state: unknown, text: Y.Text): { anchor: number; head: number } | null {
  const cursor = (state as { cursor?: { anchor?: unknown; head?: unknown } } | undefined)?.cursor;
  const [anchor, head] = [positionOf(cursor?.anchor, text), positionOf(cursor?.head, text)];
  return anchor === null || head === null ? null : { anchor, head };
}

export function carets(text: Y.Text, awareness: Awareness): Extension {
  const plugin = ViewPlugin.fromClass(
    class {
      decorations: DecorationSet = RangeSet.empty;
      private readonly since = new Map<number, { at: string; when: number }>();
      private publishing = 0;
      private readonly onChange = (change: { added: number[]; updated: number[]; removed: number[] }): void => {
        const others = [...change.added, ...change.updated, ...change.removed];
        if (others.some((client) => client !== awareness.clientID)) {
          this.view.dispatch({ annotations: moved.of(true) });
        }
      };

      constructor(private readonly view: EditorView) {
        awareness.on("change", this.onChange);
        this.draw();
      }

      destroy(): void {
        awareness.off("change", this.onChange);
        clearTimeout(this.publishing);
      }

      update(update: ViewUpdate): void {
        if (update.selectionSet || update.docChanged || update.focusChanged) {
          this.publishing ||= window.setTimeout(() => this.publish(), PUBLISH_MS);
        }
        if (update.transactions.some((transaction) => transaction.annotation(moved))) this.draw();
        else if (update.docChanged) this.decorations = this.decorations.map(update.changes);
      }

      private publish(): void {
        this.publishing = 0;
        const { view } = this;
        if (!view.hasFocus) return; // the last place stays: one looks away, and comes back to it
        const { anchor, head } = view.state.selection.main;
        const cursor = {
          anchor: placeAt(text, anchor),
          head: placeAt(text, head),
        };
        const known = awareness.getLocalState()?.cursor as unknown;
        if (JSON.stringify(known) !== JSON.stringify(cursor)) awareness.setLocalStateField("cursor", cursor);
      }

      private draw(): void {
        const { doc } = this.view.state;
        const ranges: Range<Decoration>[] = [];
        for (const [client, state] of awareness.getStates()) {
          if (client === awareness.clientID) continue;
          const selection = selectionOf(state, text);
          if (!selection || Math.max(selection.anchor, selection.head) > doc.length) continue;
          const { anchor, head } = selection;
          const person = personOf(state.user, client);
          if (anchor !== head) {
            const attributes = { style: `--ink: ${person.color}` };
            const value = Decoration.mark({ attributes, class: "selected" });
            ranges.push(value.range(Math.min(anchor, head), Math.max(anchor, head)));
          }
          const at = JSON.stringify(state.cursor);
          let since = this.since.get(client);
          if (since?.at !== at) this.since.set(client, (since = { at, when: Date.now() }));
          const widget = new Caret(client, person, since.when);
          ranges.push(Decoration.widget({ widget, side: head > anchor ? -1 : 1 }).range(head));
        }
        this.decorations = Decoration.set(ranges, true);
      }
    },
    { decorations: (value) => value.decorations },
  );
  return plugin;
}
