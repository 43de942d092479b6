/**
 * Undo of what was written here, and of nothing else; what is loaded or comes from others is never on the stack.
 *
 * Not y-codemirror's plugin: it names the place of every selection in the Y.Text, which in a long text costs more
 * than all the rest of a key. Only the selection before the first of several edits is ever gone back to.
 */

import { EditorSelection, Facet, type Extension } from "@codemirror/state";
import { EditorView, ViewPlugin, keymap, type Command, type ViewUpdate } from "@codemirror/view";
import { ySyncAnnotation, ySyncFacet } from "y-codemirror.next";
import * as Y from "yjs";
import { placeAt } from "./place";

type Item = Y.UndoManager["undoStack"][number];

interface Selected {
  anchor: Y.RelativePosition;
  head: Y.RelativePosition;
}

/** Undo and redo write to the Y.Text past CodeMirror, which would keep them from a text that is read only. */
export class Undo extends Y.UndoManager {
  locked = true;
  override undo(): Item | null {
    return this.locked ? null : super.undo();
  }
  override redo(): Item | null {
    return this.locked ? null : super.redo();
  }
  /** The next edit begins an item of its own. */
  get rested(): boolean {
    return this.undoStack.length === 0 || Date.now() - this.lastChange >= this.captureTimeout;
  }
}

const managers = Facet.define<Undo, Undo | null>({ combine: (values) => values[0] ?? null });

export const undo: Command = ({ state }) => (state.facet(managers)?.undo(), true);
export const redo: Command = ({ state }) => (state.facet(managers)?.redo(), true);

export function undoing(manager: Undo, text: Y.Text): Extension {
  const plugin = ViewPlugin.fromClass(
    class {
      private before: Selected | null = null;
      private readonly added = ({ stackItem }: { stackItem: Item }): void => {
        if (this.before && !stackItem.meta.has(plugin)) stackItem.meta.set(plugin, this.before);
      };
      private readonly popped = ({ stackItem }: { stackItem: Item }): void => {
        const selected = stackItem.meta.get(plugin) as Selected | undefined;
        const [anchor, head] = [selected?.anchor, selected?.head].map(
          (place) => place && Y.createAbsolutePositionFromRelativePosition(place, text.doc as Y.Doc)?.index,
        );
        if (anchor === undefined || head === undefined) return;
        const selection = EditorSelection.single(anchor, head);
        this.view.dispatch({ selection, effects: EditorView.scrollIntoView(selection.main) });
        this.before = this.place();
      };

      constructor(private readonly view: EditorView) {
        manager.on("stack-item-added", this.added);
        manager.on("stack-item-popped", this.popped);
        manager.addTrackedOrigin(view.state.facet(ySyncFacet));
      }

      destroy(): void {
        manager.off("stack-item-added", this.added);
        manager.off("stack-item-popped", this.popped);
      }

      update({ docChanged, transactions, startState }: ViewUpdate): void {
        if (!docChanged || transactions[0]?.annotation(ySyncAnnotation) || !manager.rested) return;
        this.before = this.place(startState.selection.main);
      }

      private place({ anchor, head } = this.view.state.selection.main): Selected {
        return { anchor: placeAt(text, anchor), head: placeAt(text, head) };
      }
    },
    {
      eventHandlers: {
        beforeinput({ inputType }, view) {
          if (inputType === "historyUndo") return undo(view);
          return inputType === "historyRedo" ? redo(view) : false;
        },
      },
    },
  );
  const bind = (key: string, run: Command, mac?: string) => ({ key, run, preventDefault: true, ...(mac ? { mac } : {}) });
  return [managers.of(manager), plugin, keymap.of([bind("Mod-z", undo), bind("Mod-y", redo, "Mod-Shift-z"), bind("Mod-Shift-z", redo)])];
}
