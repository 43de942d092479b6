/** Markdown that looks like what it says while it stays source: sizes, weights, and marks in the margin. */

import { insertNewlineContinueMarkup, deleteMarkupBackward, markdownLanguage } from "@codemirror/lang-markdown";
import { LanguageSupport, syntaxHighlighting, syntaxTree } from "@codemirror/language";
import { EditorSelection, Prec, type Extension, type Range } from "@codemirror/state";
import { Decoration, EditorView, ViewPlugin, keymap, type DecorationSet, type ViewUpdate } from "@codemirror/view";
import { tagHighlighter, tags } from "@lezer/highlight";

const inline = tagHighlighter([
  { tag: tags.strong, class: "md-strong" },
  { tag: tags.emphasis, class: "md-em" },
  { tag: tags.strikethrough, class: "md-strike" },
  { tag: tags.link, class: "md-link" },
  { tag: [tags.url, tags.labelName], class: "md-url" },
  { tag: tags.monospace, class: "md-code" },
  { tag: tags.processingInstruction, class: "md-mark" },
  { tag: [tags.contentSeparator, tags.comment, tags.escape, tags.character], class: "md-mark" },
]);

const hang = Decoration.mark({ class: "md-hang" });
const line = (name: string): Decoration => Decoration.line({ class: name });
const headings = [1, 2, 3, 4, 5, 6].map((level) => line(`md-heading md-h${level}`));
const quote = line("md-quote");
const block = line("md-block");

function decorate(view: EditorView): DecorationSet {
  const ranges: Range<Decoration>[] = [];
  const { doc } = view.state;
  const lines = (from: number, to: number, value: Decoration): void => {
    for (let { number } = doc.lineAt(from), last = doc.lineAt(to).number; number <= last; number++) {
      ranges.push(value.range(doc.line(number).from));
    }
  };
  for (const { from, to } of view.visibleRanges) {
    syntaxTree(view.state).iterate({
      from,
      to,
      enter({ name, from: start, to: end, node }) {
        const heading = /^(?:ATX|Setext)Heading([1-6])$/.exec(name);
        if (heading) lines(start, end, headings[Number(heading[1]) - 1] as Decoration);
        else if (name === "Blockquote") lines(Math.max(start, from), Math.min(end, to), quote);
        else if (name === "FencedCode" || name === "CodeBlock") lines(Math.max(start, from), Math.min(end, to), block);
        const mark = name === "HeaderMark" || name === "ListMark";
        // Only what begins a line can stand in the margin beside it.
        if (!mark || doc.lineAt(start).from !== start || node.parent?.name.startsWith("Setext")) return;
        const space = doc.sliceString(end, end + 1) === " " ? 1 : 0;
        if (space === 1) ranges.push(hang.range(start, end + space));
      },
    });
  }
  return Decoration.set(ranges, true);
}

const layout = ViewPlugin.fromClass(
  class {
    decorations: DecorationSet;
    constructor(view: EditorView) {
      this.decorations = decorate(view);
    }
    update(update: ViewUpdate): void {
      const parsed = syntaxTree(update.state) !== syntaxTree(update.startState);
      if (update.docChanged || update.viewportChanged || parsed) this.decorations = decorate(update.view);
    }
  },
  { decorations: (value) => value.decorations },
);

/** Wraps or unwraps every selection in a Markdown mark. */
function toggle(mark: string) {
  return ({ state, dispatch }: EditorView): boolean => {
    if (state.readOnly) return false;
    const size = mark.length;
    const changes = state.changeByRange((range) => {
      const { from, to } = range;
      const before = state.sliceDoc(from - size, from);
      const after = state.sliceDoc(to, to + size);
      if (before === mark && after === mark) {
        return {
          changes: [
            { from: from - size, to: from },
            { from: to, to: to + size },
          ],
          range: EditorSelection.range(from - size, to - size),
        };
      }
      return { changes: [{ from, insert: mark }, { from: to, insert: mark }], range: EditorSelection.range(from + size, to + size) };
    });
    dispatch(state.update(changes, { userEvent: "input", scrollIntoView: true }));
    return true;
  };
}

export function markdown(): Extension {
  return [
    new LanguageSupport(markdownLanguage),
    syntaxHighlighting(inline),
    layout,
    Prec.high(
      keymap.of([
        { key: "Enter", run: insertNewlineContinueMarkup },
        { key: "Backspace", run: deleteMarkupBackward },
      ]),
    ),
    keymap.of([
      { key: "Mod-b", run: toggle("**"), preventDefault: true },
      { key: "Mod-i", run: toggle("*"), preventDefault: true },
      { key: "Mod-e", run: toggle("`"), preventDefault: true },
    ]),
  ];
}
