/** CodeMirror over the Y.Text of a replica. It writes what its user does, and nothing on its own. */

import { defaultKeymap } from "@codemirror/commands";
import { Compartment, EditorState } from "@codemirror/state";
import { EditorView, highlightSpecialChars, keymap, placeholder } from "@codemirror/view";
import { yCollab, ySyncAnnotation, yUndoManagerKeymap } from "y-codemirror.next";
import * as Y from "yjs";
import { carets } from "./carets";
import { markdown } from "./markdown";
import type { Replica } from "./replica";
import { t } from "./strings";

export interface Editor {
  view: EditorView;
  /** Shown while the text is empty. */
  hint(text: string): void;
  /** Nothing can be written; so it begins. */
  locked: boolean;
  lock(readOnly: boolean): void;
}

/** Undo and redo write to the Y.Text past CodeMirror, which would keep them from a text that is read only. */
class Undo extends Y.UndoManager {
  locked = true;
  override undo(): Y.UndoManager["undoStack"][number] | null {
    return this.locked ? null : super.undo();
  }
  override redo(): Y.UndoManager["undoStack"][number] | null {
    return this.locked ? null : super.redo();
  }
}

// No caret where nothing can be written; still in the tab order, to be read and copied by keyboard. Commands
// look at readOnly, those that do not are stopped by the filter; only what comes from the Y.Text passes.
const locked = [
  EditorState.readOnly.of(true),
  EditorState.changeFilter.of((transaction) => transaction.annotation(ySyncAnnotation) !== undefined),
  EditorView.editable.of(false),
  EditorView.contentAttributes.of({ "aria-readonly": "true", tabindex: "0" }),
];

export function editor(parent: HTMLElement, replica: Replica): Editor {
  const { text, awareness } = replica;
  // yCollab adds its own origin, the only one; what is loaded or comes from others is never on the stack.
  const undoManager = new Undo(text, { trackedOrigins: new Set() });
  const empty = new Compartment();
  const writable = new Compartment();
  // A plugin that raised is switched off by CodeMirror. If that cut the editor from the Y.Text, what is
  // typed from here on would be kept nowhere: say so at once.
  const onException = (error: unknown): void => {
    console.error(error);
    queueMicrotask(() => {
      if (view.state.doc.toString() !== text.toString()) replica.stop({ code: 0, reason: t.broken });
    });
  };
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text.toString(),
      extensions: [
        // The text knows one line end. A CR that came from elsewhere is a character, so that positions
        // here and in the Y.Text stay the same; one that is pasted here becomes the line end it meant.
        EditorState.lineSeparator.of("\n"),
        EditorView.clipboardInputFilter.of((pasted) => pasted.replace(/\r\n?/g, "\n")),
        yCollab(text, null, { undoManager }),
        carets(text, awareness),
        markdown(),
        keymap.of([...yUndoManagerKeymap, ...defaultKeymap]),
        highlightSpecialChars(),
        EditorView.exceptionSink.of(onException),
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({
          "aria-label": t.text,
          spellcheck: "true",
          autocorrect: "on",
          autocapitalize: "sentences",
        }),
        empty.of([]),
        writable.of(locked), // until somebody knows that we may write
      ],
    }),
  });
  let hinted = "";
  return {
    view,
    hint: (text) => {
      if (text !== hinted) view.dispatch({ effects: empty.reconfigure(placeholder((hinted = text))) });
    },
    get locked() {
      return view.state.readOnly;
    },
    lock: (readOnly) => {
      undoManager.locked = readOnly;
      view.dispatch({ effects: writable.reconfigure(readOnly ? locked : []) });
    },
  };
}
