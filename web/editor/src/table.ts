/** A table as a table. It stands in the place of its source while the caret is elsewhere. */

import { syntaxTree } from "@codemirror/language";
import type { SyntaxNode } from "@lezer/common";
import { WidgetType, type Command, type EditorView } from "@codemirror/view";
import type { MarkdownParser } from "@lezer/markdown";
import { h } from "./element";
import { inline } from "./rendered";
import { t } from "./strings";

export interface Cell {
  from: number;
  to: number;
}

/** The cells of one line of a table, as places in it, without the space around them. */
export function cellsOf(line: string): Cell[] {
  const bars: number[] = [];
  for (let at = 0; at < line.length; at++) {
    if (line[at] === "\\") at++;
    else if (line[at] === "|") bars.push(at);
  }
  const begins = line.search(/\S/);
  const ends = line.trimEnd().length;
  const inner = bars.filter((at) => at !== begins && at !== ends - 1);
  const edges = [bars[0] === begins ? begins : begins - 1, ...inner, bars.at(-1) === ends - 1 && bars.length > 1 ? ends - 1 : ends];
  return edges.slice(1).map((end, index) => {
    let [from, to] = [(edges[index] as number) + 1, end];
    while (from < to && /\s/.test(line[from] as string)) from++;
    while (to > from && /\s/.test(line[to - 1] as string)) to--;
    // In an empty cell one writes after its first space.
    if (from === to) from = to = Math.min((edges[index] as number) + 2, end);
    return { from, to };
  });
}

function alignments(line: string): (string | null)[] {
  return cellsOf(line).map(({ from, to }) => {
    const [left, right] = [line[from] === ":", line[to - 1] === ":"];
    return left && right ? "center" : right ? "end" : left ? "start" : null;
  });
}

export class TableWidget extends WidgetType {
  constructor(
    readonly text: string,
    readonly parser: MarkdownParser,
    readonly reading: boolean,
  ) {
    super();
  }

  override eq(other: TableWidget): boolean {
    return other.text === this.text && other.reading === this.reading;
  }

  override get estimatedHeight(): number {
    return this.text.split("\n").length * 40;
  }

  toDOM(view: EditorView): HTMLElement {
    const { text } = this;
    const drawn = (): void => view.requestMeasure();
    const lines = text.split("\n");
    const aligned = alignments(lines[1] ?? "");
    const width = cellsOf(lines[0] ?? "").length;
    const tree = this.parser.parse(text);
    let start = 0;
    const row = (line: string, tag: "th" | "td"): HTMLElement => {
      const cells = cellsOf(line).slice(0, width);
      while (cells.length < width) cells.push({ from: line.length, to: line.length });
      const from = start;
      return h(
        "tr",
        {},
        ...cells.map((cell, index) => {
          const [a, b] = [from + cell.from, from + cell.to];
          const node = tree.resolveInner(a, 1);
          let holder = node;
          while (holder.parent && holder.name !== "TableCell" && !holder.name.startsWith("Table")) holder = holder.parent;
          const inside = a < b && holder.name === "TableCell" ? inline(text, holder, a, b, drawn) : [text.slice(a, b)];
          return h(tag, { "data-at": b, "data-align": aligned[index] ?? null, ...(tag === "th" ? { scope: "col" } : {}) }, ...inside);
        }),
      );
    };
    const rows = lines.map((line, index) => {
      const made = index === 1 ? null : row(line, index === 0 ? "th" : "td");
      start += line.length + 1;
      return made;
    });
    const [head, ...body] = rows.filter((made) => made !== null);
    const table = h("table", {}, h("thead", {}, head ?? null), h("tbody", {}, ...body));
    const box = h("div", { class: "md-table", title: this.reading ? null : t.tableHint }, table);
    if (!this.reading) box.addEventListener("mousedown", (event) => enter(view, box, event));
    return box;
  }

  override ignoreEvent(): boolean {
    return true;
  }
}

/** Puts the caret at the end of the cell that was clicked, and so shows the source. */
function enter(view: EditorView, box: HTMLElement, event: MouseEvent): void {
  const at = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-at]")?.dataset.at : undefined;
  if (at === undefined || event.button !== 0 || event.ctrlKey || event.metaKey || view.state.readOnly) return;
  event.preventDefault();
  const anchor = Math.min(view.posAtDOM(box) + Number(at), view.state.doc.length);
  view.dispatch({ selection: { anchor }, scrollIntoView: true, userEvent: "select.pointer" });
  view.focus();
}

/** Selects the next cell or the one before; after the last, makes a row. */
export const nextCell = (by: 1 | -1): Command => (view) => {
  const { state } = view;
  const { head } = state.selection.main;
  let table: SyntaxNode | null = syntaxTree(state).resolveInner(head, -1);
  while (table && table.name !== "Table") table = table.parent;
  if (!table || state.readOnly) return false;
  const [first, last] = [state.doc.lineAt(table.from).number, state.doc.lineAt(table.to).number];
  const cells: Cell[] = [];
  for (let number = first; number <= last; number++) {
    if (number === first + 1) continue; // of dashes
    const { from, text } = state.doc.line(number);
    cells.push(...cellsOf(text).map((cell) => ({ from: from + cell.from, to: from + cell.to })));
  }
  const here = cells.filter(({ from }) => from <= head).length - 1;
  const next = cells[Math.max(here, 0) + by];
  if (next) view.dispatch({ selection: { anchor: next.from, head: next.to }, scrollIntoView: true, userEvent: "select" });
  else if (by < 0) return false;
  else {
    const { to, text } = state.doc.line(last);
    const width = cellsOf(state.doc.line(first).text).length;
    const indent = /^\s*/.exec(text)?.[0] ?? "";
    const insert = `\n${indent}|${"  |".repeat(width)}`;
    view.dispatch({ changes: { from: to, insert }, selection: { anchor: to + indent.length + 3 }, scrollIntoView: true, userEvent: "input" });
  }
  return true;
};
