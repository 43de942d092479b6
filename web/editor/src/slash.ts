/** The menu that a slash opens, at the begin of a line or after a space. Loaded when the page rests. */

import { acceptCompletion, autocompletion, closeCompletion, completionKeymap, completionStatus, startCompletion, type Completion, type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { syntaxTree } from "@codemirror/language";
import { Prec, StateEffect, StateField, type Extension } from "@codemirror/state";
import { keymap, type EditorView } from "@codemirror/view";
import { actions, keyName, type Action } from "./actions";
import { h, icon } from "./element";
import { t } from "./strings";
import "./slash.css";

interface Offer extends Completion {
  action: Action;
}

const dismiss = StateEffect.define<number>();
/** The slash whose menu was closed: it is a slash from then on. */
const dismissed = StateField.define<number>({
  create: () => -1,
  update(value, transaction) {
    for (const effect of transaction.effects) if (effect.is(dismiss)) return effect.value;
    return value < 0 || !transaction.docChanged ? value : transaction.changes.mapPos(value, 1);
  },
});

const LITERAL = /^(?:FencedCode|CodeBlock|CodeText|InlineCode|InlineMath|MathBlock|URL|HTMLBlock|Comment)/;

// Who opens a menu in the text wants a block; words are formatted by key.
const WITHIN = ["strong", "emphasis", "strike", "code", "link"];
const offers: Offer[] = [...actions]
  .filter(({ name }) => name !== "undo" && name !== "redo")
  .sort((a, b) => Number(WITHIN.includes(a.name)) - Number(WITHIN.includes(b.name)))
  .map((action) => ({
    label: t.actions[action.name],
    action,
    apply(view: EditorView, _offer: Completion, from: number, to: number) {
      view.dispatch({ changes: { from, to }, userEvent: "delete.menu" });
      action.run(view);
    },
  }));

function matches({ label, action }: Offer, query: string): boolean {
  const words = `${label} ${action.words ?? ""}`.toLowerCase().split(/\s+/);
  return query === "" || label.toLowerCase().startsWith(query) || words.some((word) => word.startsWith(query));
}

function source(context: CompletionContext): CompletionResult | null {
  const { state, pos } = context;
  if (state.readOnly) return null;
  const slash = context.matchBefore(/\/[\p{L}\p{N}]*/u);
  const before = slash ? state.sliceDoc(slash.from - 1, slash.from) : "";
  const here = slash && /^\s?$/.test(before) && slash.from !== state.field(dismissed) ? slash : null;
  if (!here && !context.explicit) return null;
  for (let node = syntaxTree(state).resolveInner(pos, -1); ; ) {
    if (LITERAL.test(node.name) && !context.explicit) return null;
    if (!node.parent) break;
    node = node.parent;
  }
  const from = here?.from ?? pos;
  const query = state.sliceDoc(from + 1, pos).toLowerCase();
  const options = offers.filter((offer) => matches(offer, query));
  return { from, options, filter: false };
}

export function slash(): Extension {
  return [
    dismissed,
    autocompletion({
      override: [source],
      defaultKeymap: false,
      activateOnTypingDelay: 0,
      interactionDelay: 0,
      icons: false,
      tooltipClass: () => "slash-menu",
      addToOptions: [
        {
          position: 20,
          render: (offer) => {
            const { letter, icon: path, name } = (offer as Offer).action;
            return letter ? h("span", { class: `letter ${name}` }, letter) : icon(path);
          },
        },
        { position: 80, render: (offer) => h("kbd", {}, (offer as Offer).action.key ? keyName((offer as Offer).action.key as string) : "") },
      ],
    }),
    Prec.highest(
      keymap.of([
        { key: "Tab", run: acceptCompletion },
        {
          key: "Escape",
          run(view) {
            if (completionStatus(view.state) === null) return false;
            const { head } = view.state.selection.main;
            const line = view.state.doc.lineAt(head);
            const typed = /\/[\p{L}\p{N}]*$/u.exec(line.text.slice(0, head - line.from));
            if (typed) view.dispatch({ effects: dismiss.of(head - typed[0].length) });
            return closeCompletion(view);
          },
        },
        // Not to open the menu, which is done by the slash.
        ...completionKeymap.filter(({ run }) => run !== startCompletion),
      ]),
    ),
  ];
}

export const offer = startCompletion;
