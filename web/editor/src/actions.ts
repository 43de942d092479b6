/** What can be done to the text besides typing it: formats, blocks, and their keys. All write plain Markdown. */

import { syntaxTree } from "@codemirror/language";
import { EditorSelection, type ChangeSpec, type EditorState, type Line } from "@codemirror/state";
import { keymap, type Command, type EditorView } from "@codemirror/view";
import type { SyntaxNode } from "@lezer/common";
import { choose } from "./images";
import { toggleTask } from "./preview";
import { t } from "./strings";
import { nextCell } from "./table";
import { redo, undo } from "./undo";

export interface Action {
  name: keyof typeof t.actions;
  run: Command;
  key?: string;
  /** A line drawing, or a letter that shows what it does. */
  icon: string;
  letter?: string;
  /** Other words under which the slash menu finds it. */
  words?: string;
}

// -- Within lines

type Format = "strong" | "emphasis" | "strike" | "code";
const MARKS: Record<Format, string> = { strong: "**", emphasis: "*", strike: "~~", code: "`" };
const NODES: Record<Format, string> = { strong: "StrongEmphasis", emphasis: "Emphasis", strike: "Strikethrough", code: "InlineCode" };
// What begins a line and is no words of it.
const PREFIX = /^\s*(?:>\s?)*\s*(?:#{1,6}\s+|(?:[-*+]|\d+[.)])\s+(?:\[[ xX]\]\s+)?)?/;

function around(state: EditorState, from: number, to: number, name: string): SyntaxNode | null {
  const tree = syntaxTree(state);
  for (const start of [tree.resolveInner(from, 1), tree.resolveInner(to, -1)]) {
    for (let node: SyntaxNode | null = start; node; node = node.parent) {
      if (node.name === name && node.from <= from && node.to >= to) return node;
    }
  }
  return null;
}

/** The words of a selection, line by line, without marks that begin a line and space at the ends. */
function pieces(state: EditorState, from: number, to: number): { from: number; to: number }[] {
  const found: { from: number; to: number }[] = [];
  for (let at = from; at <= to; ) {
    const line = state.doc.lineAt(at);
    const content = line.from + (PREFIX.exec(line.text)?.[0].length ?? 0);
    let [start, end] = [Math.max(at, content), Math.min(line.to, to)];
    const said = state.sliceDoc(start, end);
    start += said.length - said.trimStart().length;
    end -= said.length - said.trimEnd().length;
    if (start < end) found.push({ from: start, to: end });
    at = line.to + 1;
  }
  return found;
}

function toggle(format: Format): Command {
  const [mark, name] = [MARKS[format], NODES[format]];
  const size = mark.length;
  return ({ state, dispatch }) => {
    if (state.readOnly) return false;
    const changes: ChangeSpec[] = [];
    // Where the caret stands between two new marks, which no mapping can tell.
    const between = new Map<number, number>();
    state.selection.ranges.forEach(({ empty, from, to, head }, index) => {
      const word = empty ? state.wordAt(head) : null;
      const within = word !== null && word.from < head && head < word.to;
      const parts = empty ? (within && word ? [word] : []) : pieces(state, from, to);
      const present = (empty ? [{ from, to }] : parts).map((part) => around(state, part.from, part.to, name));
      if (present.length > 0 && present.every((node) => node !== null)) {
        for (const node of new Set(present)) {
          const [first, last] = [node.firstChild, node.lastChild];
          if (first && last) changes.push({ from: first.from, to: first.to }, { from: last.from, to: last.to });
        }
      } else if (empty && state.sliceDoc(head - size, head) === mark && state.sliceDoc(head, head + size) === mark) {
        changes.push({ from: head - size, to: head + size });
      } else if (empty && !within) {
        changes.push({ from: head, insert: mark + mark });
        between.set(index, size);
      } else {
        parts.forEach((part, at) => {
          if (present[at]) return;
          changes.push({ from: part.from, insert: mark }, { from: part.to, insert: mark });
        });
      }
    });
    const set = state.changes(changes);
    const ranges = state.selection.ranges.map((range, index) => {
      const inside = between.get(index);
      if (inside !== undefined) return EditorSelection.cursor(set.mapPos(range.head, -1) + inside);
      const [from, to] = [set.mapPos(range.from, 1), set.mapPos(range.to, -1)];
      if (range.empty) return EditorSelection.cursor(from);
      return range.anchor <= range.head ? EditorSelection.range(from, to) : EditorSelection.range(to, from);
    });
    dispatch(state.update({ changes: set, selection: EditorSelection.create(ranges, state.selection.mainIndex), userEvent: "input.format", scrollIntoView: true }));
    return true;
  };
}

const link: Command = ({ state, dispatch }) => {
  if (state.readOnly) return false;
  const { from, to, empty } = state.selection.main;
  const present = around(state, from, to, "Link");
  const url = present?.getChild("URL");
  if (url) {
    // In a link the key means where it leads.
    dispatch({ selection: { anchor: url.from, head: url.to }, scrollIntoView: true });
    return true;
  }
  const said = state.sliceDoc(from, to);
  if (said.includes("\n")) return false;
  const address = /^(https?:\/\/|mailto:|www\.)\S+$/.test(said.trim());
  const word = empty ? state.wordAt(from) : null;
  const [start, end] = word ? [word.from, word.to] : [from, to];
  const label = word ? state.sliceDoc(start, end) : said;
  const insert = address ? `[](${said.trim()})` : `[${label}]()`;
  // The caret goes where something is missing.
  const anchor = address || label === "" ? start + 1 : start + insert.length - 1;
  dispatch({ changes: { from: start, to: end, insert }, selection: { anchor }, userEvent: "input.format", scrollIntoView: true });
  return true;
};

// -- Whole lines

function selectedLines(state: EditorState): Line[] {
  const lines = new Map<number, Line>();
  for (const { from, to, empty } of state.selection.ranges) {
    for (let at = from; at <= to; ) {
      const line = state.doc.lineAt(at);
      // Who selects whole lines does not mean the one after.
      if (empty || at === from || line.from < to) lines.set(line.number, line);
      at = line.to + 1;
    }
  }
  const every = [...lines.values()];
  return every.length > 1 ? every.filter((line) => line.text.trim() !== "") : every;
}

const BEGIN = /^((?:\s*>)*\s*)(#{1,6}(?:\s+|$)|(?:[-*+]|\d+[.)])\s+(?:\[[ xX]\](?:\s+|$))?)?/;

/** Gives lines another beginning, or takes it away where all have it. */
function begin(is: (mark: string) => boolean, make: (index: number) => string): Command {
  return ({ state, dispatch }) => {
    if (state.readOnly) return false;
    const lines = selectedLines(state).map((line) => {
      const [, before = "", mark = ""] = BEGIN.exec(line.text) ?? [];
      const from = line.from + before.length;
      return { from, mark };
    });
    const all = lines.length > 0 && lines.every(({ mark }) => mark !== "" && is(mark));
    const changes = lines.map(({ from, mark }, index) => ({ from, to: from + mark.length, insert: all ? "" : make(index) }));
    const set = state.changes(changes.filter(({ from, to, insert }) => state.sliceDoc(from, to) !== insert));
    dispatch({ changes: set, selection: state.selection.map(set, 1), userEvent: "input.format", scrollIntoView: true });
    return true;
  };
}

const heading = (level: number): Command => begin((mark) => mark.trim() === "#".repeat(level), () => `${"#".repeat(level)} `);
const paragraph: Command = begin(() => false, () => "");
const bullets = begin((mark) => /^[-*+]\s+$/.test(mark), () => "- ");
const numbers = begin((mark) => /^\d/.test(mark), (index) => `${index + 1}. `);
const tasks = begin((mark) => mark.includes("["), () => "- [ ] ");

const quote: Command = ({ state, dispatch }) => {
  if (state.readOnly) return false;
  const chosen = selectedLines(state);
  const [first, last] = [chosen[0], chosen.at(-1)];
  if (!first || !last) return false;
  // A blank line would end the quote.
  const lines = Array.from({ length: last.number - first.number + 1 }, (_, index) => state.doc.line(first.number + index));
  const all = lines.every((line) => line.text.startsWith(">"));
  const set = state.changes(
    lines.map((line) => (all ? { from: line.from, to: line.from + (/^> ?/.exec(line.text)?.[0].length ?? 0) } : { from: line.from, insert: "> " })),
  );
  dispatch({ changes: set, selection: state.selection.map(set, 1), userEvent: "input.format", scrollIntoView: true });
  return true;
};

const fence: Command = ({ state, dispatch }) => {
  if (state.readOnly) return false;
  const { from, to } = state.selection.main;
  const present = around(state, from, to, "FencedCode");
  if (present) {
    const [first, last] = [state.doc.lineAt(present.from), state.doc.lineAt(present.to)];
    const closed = /^\s*(?:`{3,}|~{3,})\s*$/.test(last.text) && last.number > first.number;
    const changes = [
      { from: first.from, to: Math.min(first.to + 1, state.doc.length) },
      ...(closed ? [{ from: Math.max(last.from - 1, Math.min(first.to + 1, last.from)), to: last.to }] : []),
    ];
    dispatch({ changes, userEvent: "input.format", scrollIntoView: true });
    return true;
  }
  const [first, last] = [state.doc.lineAt(from), state.doc.lineAt(to)];
  const inside = state.sliceDoc(first.from, last.to);
  const longest = Math.max(2, ...[...inside.matchAll(/`{3,}/g)].map(([ticks]) => ticks.length));
  const ticks = "`".repeat(longest + 1);
  const set = state.changes([
    { from: first.from, insert: `${ticks}\n` },
    { from: last.to, insert: `\n${ticks}` },
  ]);
  const { anchor, head } = state.selection.main;
  const place = (pos: number): number => Math.min(set.mapPos(pos, 1), set.mapPos(last.to, -1));
  dispatch({ changes: set, selection: { anchor: place(anchor), head: place(head) }, userEvent: "input.format", scrollIntoView: true });
  return true;
};

/** Puts a block by itself after the line of the caret; `select` is what of it is then selected. */
function insert(view: EditorView, text: string, select: [number, number]): boolean {
  const { state } = view;
  if (state.readOnly) return false;
  const line = state.doc.lineAt(state.selection.main.head);
  const blank = line.text.trim() === "";
  const previous = line.number > 1 ? state.doc.line(line.number - 1).text : "";
  const before = blank ? (previous.trim() === "" ? "" : "\n") : "\n\n";
  const following = line.number < state.doc.lines ? state.doc.line(line.number + 1).text : null;
  const after = following === null ? (text.endsWith("\n") ? "" : "\n") : following.trim() === "" ? "" : "\n";
  const from = blank ? line.from : line.to;
  const start = from + before.length;
  view.dispatch({
    changes: { from, to: line.to, insert: before + text + after },
    selection: { anchor: start + select[0], head: start + select[1] },
    userEvent: "input.format",
    scrollIntoView: true,
  });
  return true;
}

const table: Command = (view) => {
  const name = t.column;
  return insert(view, `| ${name} 1 | ${name} 2 | ${name} 3 |\n| --- | --- | --- |\n|  |  |  |\n|  |  |  |`, [2, 2 + name.length + 2]);
};
const rule: Command = (view) => insert(view, "---\n", [4, 4]);
const formula: Command = (view) => insert(view, "$$\n\n$$", [3, 3]);

/** Moves items of a list, with all that belongs to them, a level in or out. Elsewhere the Tab key is not ours. */
const shift = (inwards: boolean): Command => ({ state, dispatch }) => {
  if (state.readOnly) return false;
  const tree = syntaxTree(state);
  const items: SyntaxNode[] = [];
  for (const line of selectedLines(state)) {
    let node: SyntaxNode | null = tree.resolveInner(line.to, -1);
    while (node && node.name !== "ListItem") node = node.parent;
    if (node && !items.some((item) => item.from <= (node as SyntaxNode).from && item.to >= (node as SyntaxNode).to)) items.push(node);
  }
  const [first] = items;
  if (!first) return false;
  const mark = first.firstChild;
  const outer = first.parent?.parent?.name === "ListItem" ? first.parent.parent.firstChild : null;
  // An item can only be moved in under one before it.
  if (inwards && first.prevSibling?.name !== "ListItem") return true;
  if (!inwards && !outer) return false;
  const under = inwards ? mark : outer;
  const by = under ? under.to - under.from + 1 : 2;
  const changes: ChangeSpec[] = [];
  for (const item of items) {
    const last = state.doc.lineAt(item.to).number;
    for (let { number } = state.doc.lineAt(item.from); number <= last; number++) {
      const { from, text } = state.doc.line(number);
      if (text.trim() === "") continue;
      if (inwards) changes.push({ from, insert: " ".repeat(by) });
      else changes.push({ from, to: from + Math.min(by, /^ */.exec(text)?.[0].length ?? 0) });
    }
  }
  const set = state.changes(changes);
  dispatch({ changes: set, selection: state.selection.map(set, 1), userEvent: inwards ? "input.indent" : "delete.dedent", scrollIntoView: true });
  return true;
};

// -- All of them

export const actions: readonly Action[] = [
  { name: "undo", run: undo, key: "Mod-z", icon: "M7 5L3.5 8.5L7 12M4 8.5h8a4 4 0 0 1 0 8H9" },
  { name: "redo", run: redo, key: "Mod-Shift-z", icon: "M13 5l3.5 3.5L13 12M16 8.5H8a4 4 0 0 0 0 8h3" },
  { name: "paragraph", run: paragraph, key: "Mod-Alt-0", icon: "M8 4.5h8M11 4.5v11M14 4.5v11M11 10H8.5a2.75 2.75 0 0 1 0-5.5" },
  { name: "heading1", run: heading(1), key: "Mod-Alt-1", icon: "M3.5 5v10M10.5 5v10M3.5 10h7M13.5 8.5L16 7v8", words: "title h1" },
  { name: "heading2", run: heading(2), key: "Mod-Alt-2", icon: "M3.5 5v10M10 5v10M3.5 10H10M13 8.6c.4-2 4-2 4 .2 0 2.2-4 3.2-4 6.2h4", words: "h2" },
  { name: "heading3", run: heading(3), key: "Mod-Alt-3", icon: "M3.5 5v10M10 5v10M3.5 10H10M13 7.6c1.4-1.4 4-.6 4 1.3 0 1.4-1 2-2.2 2 1.2 0 2.4.7 2.4 2.1 0 2.2-3 2.8-4.4 1.2", words: "h3" },
  { name: "heading4", run: heading(4), key: "Mod-Alt-4", icon: "M3.5 5v10M10 5v10M3.5 10H10M16 15V7l-3.2 5.2H17.4", words: "h4" },
  { name: "strong", run: toggle("strong"), key: "Mod-b", letter: "B", icon: "" },
  { name: "emphasis", run: toggle("emphasis"), key: "Mod-i", letter: "I", icon: "" },
  { name: "strike", run: toggle("strike"), key: "Mod-Shift-x", letter: "S", icon: "" },
  { name: "code", run: toggle("code"), key: "Mod-e", icon: "M7 6l-4 4l4 4M13 6l4 4l-4 4" },
  { name: "link", run: link, key: "Mod-k", icon: "M8.5 11.5a3 3 0 0 0 4.2 0l3-3a3 3 0 0 0-4.2-4.2l-1 1M11.5 8.5a3 3 0 0 0-4.2 0l-3 3a3 3 0 0 0 4.2 4.2l1-1", words: "url address" },
  { name: "bullets", run: bullets, key: "Mod-Shift-8", icon: "M8 5.5h9M8 10h9M8 14.5h9M3.2 5.5a.6.6 0 1 0 1.2 0a.6.6 0 1 0-1.2 0M3.2 10a.6.6 0 1 0 1.2 0a.6.6 0 1 0-1.2 0M3.2 14.5a.6.6 0 1 0 1.2 0a.6.6 0 1 0-1.2 0", words: "unordered" },
  { name: "numbers", run: numbers, key: "Mod-Shift-7", icon: "M8.5 5.5H17M8.5 10H17M8.5 14.5H17M3 4.2l1.3-.7v4M2.8 12.6c.4-1 2.2-.9 2.2.3 0 1-2.1 1.5-2.1 3.1H5", words: "ordered" },
  { name: "tasks", run: tasks, key: "Mod-Shift-9", icon: "M3 3.8h4.4v4.4H3zM3 11.8h4.4v4.4H3zM10.5 6H17M10.5 14H17M4 13.9l1 1.1l1.5-2.1", words: "todo checkbox checklist" },
  { name: "quote", run: quote, key: "Mod-Shift-.", icon: "M4 5v10M8 6h9M8 10h9M8 14h6", words: "blockquote citation" },
  { name: "fence", run: fence, key: "Mod-Shift-e", icon: "M3 4h14v12H3zM8 8l-2 2l2 2M12 8l2 2l-2 2", words: "program snippet" },
  { name: "table", run: table, key: "Mod-Alt-g", icon: "M3 4.5h14v11H3zM3 8.2h14M3 11.8h14M9 4.5v11", words: "grid cells" },
  { name: "image", run: choose, icon: "M3 4.5h14v11H3zM3 13l4-4l3.5 3.5L13 10l4 4M12.6 7.6h.8", words: "picture photo upload" },
  { name: "rule", run: rule, key: "Mod-Alt-r", icon: "M3 10h14", words: "divider line separator hr" },
  { name: "formula", run: formula, key: "Mod-Alt-f", icon: "M14.5 5.5V4.5h-9l5 5.5l-5 5.5h9v-1", words: "math latex equation" },
];

export const action = (name: Action["name"]): Action => actions.find((each) => each.name === name) as Action;

const PARTS_LIMIT = 5_000;

/** The formats that the caret stands in. */
export function activeAt(state: EditorState): Set<string> {
  const found = new Set<string>();
  const { from, to } = state.selection.main;
  const tree = syntaxTree(state);
  const nodes = new Set<SyntaxNode>();
  for (const side of from === to ? ([-1, 1] as const) : ([1] as const)) {
    for (let node: SyntaxNode | null = tree.resolveInner(from, side); node; node = node.parent) nodes.add(node);
  }
  const line = state.doc.lineAt(from);
  for (const node of nodes) {
    if (node.to < line.from || node.from > line.to) continue;
    const level = /^(?:ATX|Setext)Heading([1-6])$/.exec(node.name)?.[1];
    if (level) found.add(`heading${level}`);
    if (to > node.to) continue;
    if (node.name === "Task") found.add("tasks");
    else if (node.name === "OrderedList") found.add("numbers");
    else if (node.name === "BulletList" && !found.has("tasks")) found.add("bullets");
    else if (node.name === "Blockquote") found.add("quote");
    else if (node.name === "FencedCode") found.add("fence");
    else if (node.name === "Link") found.add("link");
    else if (node.name === "Table") found.add("table");
    for (const [format, name] of Object.entries(NODES)) if (node.name === name) found.add(format);
  }
  // Of several lines a format counts when all have it, each for itself.
  const parts = from < to && to - from < PARTS_LIMIT ? pieces(state, from, to) : [];
  for (const [format, name] of Object.entries(NODES)) {
    if (parts.length > 0 && parts.every((part) => around(state, part.from, part.to, name))) found.add(format);
  }
  if (found.has("tasks")) found.delete("bullets");
  return found;
}

const mac = /Mac|iP/.test(navigator.platform);

/** A key as people say it. */
export function keyName(key: string): string {
  const names: Record<string, string> = mac
    ? { Mod: "⌘", Shift: "⇧", Alt: "⌥", Ctrl: "⌃", Enter: "↩" }
    : { Mod: "Ctrl" };
  const parts = key.split("-").map((part) => names[part] ?? (part.length === 1 ? part.toUpperCase() : part));
  return parts.join(mac ? "" : "+");
}

export const actionKeys = keymap.of([
  ...actions.filter(({ name }) => name !== "undo" && name !== "redo").flatMap(({ key, run }) => (key ? [{ key, run, preventDefault: true }] : [])),
  { key: "Mod-Alt-5", run: heading(5) },
  { key: "Mod-Alt-6", run: heading(6) },
  { key: "Mod-Enter", run: toggleTask },
  { key: "Tab", run: nextCell(1), shift: nextCell(-1) },
  { key: "Tab", run: shift(true), shift: shift(false) },
]);
