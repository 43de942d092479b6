/**
 * Pasting: what comes as a page becomes Markdown, an address over words becomes a link, and with Shift it is as plain
 * as it comes. Files are not ours: whoever keeps images takes them.
 */

import { syntaxTree } from "@codemirror/language";
import { EditorSelection, type Extension, type StateEffect } from "@codemirror/state";
import { EditorView } from "@codemirror/view";
import { toast } from "./element";
import { t } from "./strings";

const ADDRESS = /^(?:https?:\/\/|mailto:)[^\s<>"]+$/i;
// Markup that says something which plain text does not.
const TELLING = /<(?:a\s[^>]*href|b|strong|i|em|del|s|strike|code|pre|h[1-6]|ul|ol|li|table|blockquote|hr|img)\b|mso-list|font-weight:\s*(?:bold|[6-9]00)|font-style:\s*italic|line-through/i;
const LITERAL = /^(?:FencedCode|CodeBlock|InlineCode|InlineMath|MathBlock|URL|LinkReference|HTMLBlock)$/;

/** Where it goes: the caret may have moved on, and others write. */
interface Place {
  at: number;
}

function within(view: EditorView, names: RegExp): boolean {
  for (let node = syntaxTree(view.state).resolveInner(view.state.selection.main.from, -1); ; ) {
    if (names.test(node.name)) return true;
    if (!node.parent) return false;
    node = node.parent;
  }
}

function put(view: EditorView, text: string): void {
  view.dispatch(view.state.replaceSelection(text), { userEvent: "input.paste", scrollIntoView: true });
}

/** Puts what was pasted where that was; whoever has not moved since goes on behind it. */
export function putAt(view: EditorView, at: number, insert: string, effects: StateEffect<unknown>[] = []): void {
  const { main } = view.state.selection;
  const selection = main.empty && main.head === at ? EditorSelection.cursor(at + insert.length) : undefined;
  view.dispatch({
    changes: { from: at, insert },
    effects,
    userEvent: "input.paste",
    ...(selection && { selection, scrollIntoView: true }),
  });
}

export function pasting(): Extension {
  let plainly = false;
  const places = new Set<Place>();
  const follow = EditorView.updateListener.of(({ docChanged, changes }) => {
    if (docChanged) for (const place of places) place.at = changes.mapPos(place.at, -1);
  });
  const handlers = EditorView.domEventHandlers({
    keydown(event) {
      // Browsers leave only plain text in such a paste, those that know the key.
      if (event.key.toLowerCase() === "v") plainly = event.shiftKey && (event.ctrlKey || event.metaKey);
      return false;
    },
    paste(event, view) {
      const data = event.clipboardData;
      const plain = plainly;
      plainly = false;
      if (!data || view.state.readOnly) return false;
      const text = data.getData("text/plain").trim();
      const { main } = view.state.selection;
      const literal = within(view, LITERAL);
      if (!main.empty && ADDRESS.test(text) && !literal && !view.state.sliceDoc(main.from, main.to).includes("\n")) {
        const words = view.state.sliceDoc(main.from, main.to);
        if (!ADDRESS.test(words.trim()) && !within(view, /^Link$/)) {
          put(view, `[${words}](${text})`);
          return true;
        }
      }
      const html = data.getData("text/html");
      // Code editors mark up what is only code; in code, everything is.
      if (plain || literal || !html || !TELLING.test(html) || data.types.includes("vscode-editor-data")) return false;
      // A picture that was copied comes with markup that only names it.
      if (data.files.length > 0 && !/<(?:table|p|li|h[1-6])\b/i.test(html)) return false;
      const raw = data.getData("text/plain").replace(/\r\n?/g, "\n");
      event.preventDefault();
      view.dispatch(view.state.replaceSelection(""), { userEvent: "input.paste" });
      const place = { at: view.state.selection.main.head };
      places.add(place);
      const insert = (text: string): void => {
        places.delete(place);
        if (view.state.readOnly) return toast(t.readOnlyStatus);
        putAt(view, place.at, text);
      };
      import("./convert").then(
        ({ markdownOf }) => insert(markdownOf(html) || raw),
        () => insert(raw),
      );
      return true;
    },
  });
  return [follow, handlers];
}
