/** CodeMirror over the Y.Text of a replica. It writes what its user does, and nothing on its own. */

import { defaultKeymap } from "@codemirror/commands";
import { Compartment, EditorState, type Extension } from "@codemirror/state";
import { EditorView, highlightSpecialChars, keymap, placeholder } from "@codemirror/view";
import { ySync, ySyncAnnotation, YSyncConfig, ySyncFacet } from "y-codemirror.next";
import { carets } from "./carets";
import { directions } from "./direction";
import { announce, h, toast } from "./element";
import { images } from "./images";
import { markdown } from "./markdown";
import { Undo, undoing } from "./undo";
import { pasting } from "./paste";
import { mode, type Mode } from "./preview";
import "./preview.css";
import type { Replica } from "./replica";
import { t } from "./strings";

export interface Editor {
  view: EditorView;
  /** Shown while the text is empty. */
  hint(text: string): void;
  /** Nothing can be written; so it begins. */
  locked: boolean;
  lock(readOnly: boolean): void;
  /** Shows the text in another way, and in that one next time. */
  look(as: Mode): void;
  /** Offers what can be inserted at the caret. */
  offer(): Promise<void>;
  find(): Promise<void>;
  outline(): Promise<void>;
  readonly outlined: boolean;
  readonly undoable: boolean;
  readonly redoable: boolean;
  /** Calls back after whatever may have changed the above. */
  watch(watcher: () => void): void;
}

// Opening and typing come first.
const REST_MS = 1_500;
const MODE = "collab.mode";
const MODES: Mode[] = ["source", "live", "reading"];

function remembered(): Mode {
  const kept = localStorage.getItem(MODE) as Mode;
  return MODES.includes(kept) ? kept : "live";
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
  // The origin of the binding is the only one; what is loaded or comes from others is never on the stack.
  const undoManager = new Undo(text, { trackedOrigins: new Set() });
  const empty = new Compartment();
  const writable = new Compartment();
  const viewing = new Compartment();
  const slash = new Compartment();
  const watchers = new Set<() => void>();
  const tell = (): void => watchers.forEach((watcher) => watcher());
  let isLocked = true;
  let shownAs = remembered();
  const shown = (as: Mode): Extension => [mode.of(as), as === "reading" ? locked : []];
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
        // Before the binding: it must see the Y.Text as it was before the change.
        undoing(undoManager, text),
        ySyncFacet.of(new YSyncConfig(text, null)),
        ySync,
        carets(text, awareness),
        images(replica),
        markdown(),
        directions(),
        pasting(),
        keymap.of([
          { key: "Mod-Alt-v", run: () => (look(MODES[(MODES.indexOf(shownAs) + 1) % MODES.length] as Mode), true) },
          { key: "Mod-f", run: () => (void find(), true), preventDefault: true },
          { key: "Mod-Alt-o", run: () => (void outline(), true) },
          ...defaultKeymap,
        ]),
        slash.of([]),
        EditorView.updateListener.of((update) => {
          tell();
          if (!offering && update.transactions.some((transaction) => transaction.isUserEvent("input.type"))) begun(update.state);
        }),
        // What is gone to must not end up under the bars.
        EditorView.scrollMargins.of(() => {
          const foot = document.querySelector(".tools")?.getBoundingClientRect();
          const head = document.querySelector(".bar")?.getBoundingClientRect().bottom ?? 0;
          const atFoot = foot !== undefined && foot.top > innerHeight / 2;
          return { top: (atFoot ? head : Math.max(head, foot?.bottom ?? 0)) + 8, bottom: atFoot ? foot.height + 8 : 8 };
        }),
        highlightSpecialChars(),
        // Those of what is loaded later too: with other phrases the view would begin anew, and every panel with it.
        EditorState.phrases.of({ Completions: t.insert }),
        EditorView.exceptionSink.of(onException),
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({
          "aria-label": t.text,
          lang: "", // whatever its writers speak
          spellcheck: "true",
          autocorrect: "on",
          autocapitalize: "sentences",
        }),
        empty.of([]),
        viewing.of(shown(shownAs)),
        writable.of(locked), // until somebody knows that we may write
      ],
    }),
  });
  undoManager.on("stack-item-added", tell);
  undoManager.on("stack-item-popped", tell);
  undoManager.on("stack-cleared", tell);
  const look = (as: Mode): void => {
    if (as === shownAs) return;
    shownAs = as;
    localStorage.setItem(MODE, as);
    undoManager.locked = isLocked || as === "reading";
    view.dispatch({ effects: viewing.reconfigure(shown(as)) });
    announce(t.viewSaid[as]);
  };
  // On paper it is there to be read, whatever it is on the screen.
  const print = (on: boolean): void => view.dispatch({ effects: viewing.reconfigure(shown(on ? "reading" : shownAs)) });
  matchMedia("print").addEventListener("change", ({ matches }) => print(matches));
  // What the slash opens, what a paste and a search need: fetched when the page rests, before it is needed.
  let offering = false;
  const bring = async (): Promise<typeof import("./slash")> => {
    const module = await import("./slash");
    if (!offering) view.dispatch({ effects: slash.reconfigure(module.slash()) });
    offering = true;
    return module;
  };
  /** A slash that was typed before the menu was here. */
  const begun = ({ doc, selection: { main } }: EditorState): void => {
    const { from, text } = doc.lineAt(main.head);
    if (/(?:^|\s)\/$/.test(text.slice(0, main.head - from))) void offer();
  };
  // Tried again when asked for.
  setTimeout(() => [bring, finding, () => import("./convert")].forEach((load) => void load().catch(() => undefined)), REST_MS);
  const offer = async (): Promise<void> => {
    try {
      (await bring()).offer(view);
    } catch {
      toast(t.unreachable);
    }
  };
  // Letters that are typed before it is open would be typed into the text.
  const finding = () => import("./find");
  const find = async (): Promise<void> => {
    try {
      const { open } = await finding();
      const row = document.querySelector(".tools") ?? parent;
      let place = row.querySelector<HTMLElement>(".find-place");
      if (!place) row.append((place = h("div", { class: "find-place" })));
      open(view, place);
    } catch {
      toast(t.unreachable);
    }
  };
  let outlining: { close(byKey?: boolean): void } | null = null;
  const outline = async (): Promise<void> => {
    if (outlining) return outlining.close(true);
    try {
      const { open } = await import("./outline");
      outlining = open(editing, (byKey) => {
        outlining = null;
        tell();
        if (byKey) document.querySelector<HTMLElement>(".ways-to-look [aria-expanded]")?.focus();
      });
      tell();
    } catch {
      toast(t.unreachable);
    }
  };
  // Also where the caret is not in the text: the browser finds only what is drawn of it.
  addEventListener("keydown", (event) => {
    const mod = /Mac|iP/.test(navigator.platform) ? event.metaKey : event.ctrlKey;
    if (!mod || event.shiftKey || event.defaultPrevented || parent.hidden) return;
    if (!event.altKey && event.key.toLowerCase() === "f") void find();
    else if (event.altKey && event.code === "KeyO") void outline();
    else if (event.altKey && event.code === "KeyV") look(MODES[(MODES.indexOf(shownAs) + 1) % MODES.length] as Mode);
    else return;
    event.preventDefault();
  });
  let hinted = "";
  const editing: Editor = {
    view,
    hint: (text) => {
      if (text !== hinted) view.dispatch({ effects: empty.reconfigure(placeholder((hinted = text))) });
    },
    get locked() {
      return isLocked;
    },
    lock: (readOnly) => {
      isLocked = readOnly;
      // In an empty text there is nothing to read.
      if (!readOnly && shownAs === "reading" && text.length === 0) {
        shownAs = "live";
        view.dispatch({ effects: viewing.reconfigure(shown(shownAs)) });
      }
      undoManager.locked = readOnly || shownAs === "reading";
      view.dispatch({ effects: writable.reconfigure(readOnly ? locked : []) });
    },
    look,
    offer,
    find,
    outline,
    get outlined() {
      return outlining !== null;
    },
    get undoable() {
      return undoManager.undoStack.length > 0;
    },
    get redoable() {
      return undoManager.redoStack.length > 0;
    },
    watch: (watcher) => void watchers.add(watcher),
  };
  return editing;
}
