/** Each line runs the way that its own script does. */

import { RangeSetBuilder, type Extension } from "@codemirror/state";
import { Decoration, EditorView, ViewPlugin, type DecorationSet, type ViewUpdate } from "@codemirror/view";

// Hebrew, Arabic, Syriac, Thaana, N'Ko and what lies beside them, their presentation forms, and beyond the BMP.
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]|\ud802|\ud803|\ud83a/;
const auto = Decoration.line({ attributes: { dir: "auto" } });

export function directions(): Extension {
  const plugin = ViewPlugin.fromClass(
    class {
      decorations: DecorationSet;

      constructor(view: EditorView) {
        this.decorations = lines(view);
      }

      update(update: ViewUpdate): void {
        if (update.docChanged || update.viewportChanged) this.decorations = lines(update.view);
      }
    },
    { decorations: (value) => value.decorations },
  );
  return [plugin, EditorView.perLineTextDirection.of(true)];
}

/** Those in sight that hold a letter that runs from right to left; the others are as the page is. */
function lines({ state: { doc }, visibleRanges }: EditorView): DecorationSet {
  const builder = new RangeSetBuilder<Decoration>();
  for (const { from, to } of visibleRanges) {
    if (!RIGHT_TO_LEFT.test(doc.sliceString(from, to))) continue;
    for (let at = from; at <= to; ) {
      const line = doc.lineAt(at);
      if (RIGHT_TO_LEFT.test(line.text)) builder.add(line.from, line.from, auto);
      at = line.to + 1;
    }
  }
  return builder.finish();
}
