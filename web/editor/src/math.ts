/** Math in Markdown: `$…$` in a line, `$$…$$` by itself; drawn by KaTeX, which comes when the first is seen. */

import { tags } from "@lezer/highlight";
import type { MarkdownConfig } from "@lezer/markdown";
import { h } from "./element";
import { t } from "./strings";

const DOLLAR = 36;
const BACKSLASH = 92;
// Who writes two prices in one paragraph means no formula between them.
const INLINE_LIMIT = 1_000;
const LINES_LIMIT = 200;
const DRAWN_LIMIT = 5_000;

function space(code: number): boolean {
  return code === 32 || code === 9 || code === 10;
}

export const math: MarkdownConfig = {
  defineNodes: [
    { name: "InlineMath", style: { "InlineMath/...": tags.monospace } },
    { name: "MathBlock", block: true, style: { "MathBlock/...": tags.monospace } },
    { name: "MathMark", style: tags.processingInstruction },
  ],
  parseInline: [
    {
      name: "InlineMath",
      before: "Emphasis",
      parse(cx, next, from) {
        if (next !== DOLLAR) return -1;
        const size = cx.char(from + 1) === DOLLAR ? 2 : 1;
        const inside = from + size;
        if (size === 1 && space(cx.char(inside))) return -1;
        const limit = Math.min(cx.end, inside + INLINE_LIMIT);
        for (let at = inside; at < limit; at++) {
          const code = cx.char(at);
          if (code === BACKSLASH) at++;
          else if (code === DOLLAR) {
            if (at === inside) return -1;
            if (size === 2 && cx.char(at + 1) !== DOLLAR) return -1;
            const after = cx.char(at + size);
            if (size === 1 && (space(cx.char(at - 1)) || (after >= 48 && after <= 57))) return -1;
            const marks = [cx.elt("MathMark", from, inside), cx.elt("MathMark", at, at + size)];
            return cx.addElement(cx.elt("InlineMath", from, at + size, marks));
          }
        }
        return -1;
      },
    },
  ],
  parseBlock: [
    {
      name: "MathBlock",
      before: "FencedCode",
      parse(cx, line) {
        if (line.next !== DOLLAR || cx.depth > 1) return false;
        const first = line.text.slice(line.pos);
        if (!first.startsWith("$$")) return false;
        const start = cx.lineStart + line.pos;
        const add = (end: number): true => {
          const marks = [cx.elt("MathMark", start, start + 2), cx.elt("MathMark", end - 2, end)];
          cx.addElement(cx.elt("MathBlock", start, end, marks));
          cx.nextLine();
          return true;
        };
        const ended = first.trimEnd();
        if (ended.length > 4 && ended.indexOf("$$", 2) === ended.length - 2) return add(start + ended.length);
        if (first.includes("$$", 2)) return false;
        let text = first;
        for (let lines = 1; cx.nextLine() && lines < LINES_LIMIT && line.text.trim() !== ""; lines++) {
          const closing = line.text.trimEnd();
          if (closing.endsWith("$$")) return add(cx.lineStart + closing.length);
          text += `\n${line.text}`;
        }
        // Nothing closes it, so it opened nothing: it must not swallow what follows.
        cx.addElement(cx.elt("Paragraph", start, start + text.length, cx.parser.parseInline(text, start)));
        return true;
      },
      endLeaf: (cx, line) => cx.depth === 1 && line.next === DOLLAR && /^\$\$[^$]*$/.test(line.text.slice(line.pos)),
    },
  ],
};

/** What stands between the dollar signs, and whether it stands by itself. */
export function formula(source: string): { tex: string; display: boolean } {
  const display = source.startsWith("$$");
  const size = display ? 2 : 1;
  return { tex: source.slice(size, -size).trim(), display };
}

/** A formula as an element: its source until KaTeX is here. `drawn` is called when its size has changed. */
export function draw(source: string, drawn: () => void): HTMLElement {
  const { tex, display } = formula(source);
  const element = h(display ? "div" : "span", { class: display ? "md-math md-display" : "md-math" }, source);
  if (tex.length > DRAWN_LIMIT) return element;
  import("./katex").then(
    ({ render }) => {
      const wrong = render(tex, element, display);
      if (wrong !== null) {
        element.replaceChildren(source);
        element.classList.add("md-wrong");
        element.title = wrong;
      }
      drawn();
    },
    () => (element.title = t.notLoaded),
  );
  return element;
}
