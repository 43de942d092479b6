/**
 * Live preview: Markdown looks like what it means, and its source shows where one edits.
 *
 * The text is never touched: everything here is decoration over the syntax tree of what is on the screen, made
 * anew when the text, the selection or the view of it changes. What stands in a line is drawn by a plugin, from
 * the visible ranges. What stands in the place of whole lines (tables, formulas) changes heights, and so must be
 * state: it covers a window around what is visible.
 */

import { syntaxTree } from "@codemirror/language";
import { EditorSelection, Facet, Prec, RangeSet, StateEffect, StateField, type EditorState, type Extension, type Range, type Transaction } from "@codemirror/state";
import { Decoration, EditorView, ViewPlugin, WidgetType, keymap, type Command, type DecorationSet, type ViewUpdate } from "@codemirror/view";
import type { SyntaxNode, SyntaxNodeRef } from "@lezer/common";
import type { MarkdownParser } from "@lezer/markdown";
import { languageOf } from "./code";
import { h } from "./element";
import { anchor, follow, target } from "./link";
import { draw } from "./math";
import { partsOf, picture } from "./rendered";
import { t } from "./strings";
import { TableWidget } from "./table";

export type Mode = "source" | "live" | "reading";

export const mode = Facet.define<Mode, Mode>({ combine: (values) => values[0] ?? "live" });

// Lines whose blocks are drawn beyond what is visible, in characters: scrolling meets them ready.
const MARGIN = 20_000;
const DEPTH_LIMIT = 6;

// -- Where the source shows

interface Points {
  /** The ends of all selections; nothing between them is opened, so that to select all moves nothing. */
  at: readonly number[];
  /** While a pointer selects, what is under it must not move. */
  held: boolean;
  /** Nobody edits before they have come to the text. */
  entered: boolean;
}

const hold = StateEffect.define<boolean>();
const enter = StateEffect.define<null>();
/** Draws again what was left alone while a word was composed. */
const redraw = StateEffect.define<null>();

const pointsOf = (state: EditorState): number[] => [...new Set(state.selection.ranges.flatMap(({ anchor, head }) => [anchor, head]))];

const points = StateField.define<Points>({
  create: (state) => ({ at: pointsOf(state), held: false, entered: false }),
  update(value, transaction) {
    let { held, entered } = value;
    for (const effect of transaction.effects) {
      if (effect.is(hold)) held = effect.value;
      if (effect.is(enter)) entered = true;
    }
    const at = held
      ? transaction.docChanged
        ? value.at.map((point) => transaction.changes.mapPos(point))
        : value.at
      : pointsOf(transaction.state);
    const same = held === value.held && entered === value.entered && at.join() === value.at.join();
    return same ? value : { at, held, entered };
  },
});

function isOpen(state: EditorState, from: number, to: number): boolean {
  if (state.facet(mode) === "source") return true;
  if (state.facet(mode) === "reading" || state.readOnly) return false;
  const { at, entered } = state.field(points);
  return entered && at.some((point) => from <= point && point <= to);
}

const holding = ViewPlugin.fromClass(
  class {
    private readonly release = (): void => {
      if (this.view.state.field(points).held) this.view.dispatch({ effects: hold.of(false) });
    };
    constructor(readonly view: EditorView) {
      for (const name of ["mouseup", "dragend", "blur"]) addEventListener(name, this.release);
    }
    destroy(): void {
      for (const name of ["mouseup", "dragend", "blur"]) removeEventListener(name, this.release);
    }
  },
  {
    eventHandlers: {
      mousedown(event, view) {
        if (event.button === 0) view.dispatch({ effects: hold.of(true) });
      },
    },
  },
);

// -- Within lines

const line = (name: string): Decoration => Decoration.line({ class: name });
const hidden = Decoration.replace({});
const hang = Decoration.mark({ class: "md-hang" });
const headings = [1, 2, 3, 4, 5, 6].map((level) => line(`md-heading md-h${level}`));
const readHeadings = [1, 2, 3, 4, 5, 6].map((level) =>
  Decoration.line({ class: `md-heading md-h${level}`, attributes: { role: "heading", "aria-level": String(level) } }),
);
const quotes = Array.from({ length: DEPTH_LIMIT }, (_, depth) => line(`md-quote md-quote-${depth + 1}`));
const items = Array.from({ length: DEPTH_LIMIT }, (_, depth) => line(`md-item md-item-${depth + 1}`));
const block = line("md-block");
const [blockFirst, blockLast] = [line("md-block-first"), line("md-block-last")];
const fold = line("md-fold");
const shut = line("md-shut");
const rule = line("md-rule");
const tableSource = line("md-table-source");
const done = line("md-done");

class Bullet extends WidgetType {
  override eq(): boolean {
    return true;
  }
  toDOM(): HTMLElement {
    return h("span", { class: "md-hang md-bullet" }, "•");
  }
  override ignoreEvent(): boolean {
    return false;
  }
}
const bullet = Decoration.replace({ widget: new Bullet() });

class Language extends WidgetType {
  constructor(readonly name: string) {
    super();
  }
  override eq(other: Language): boolean {
    return other.name === this.name;
  }
  toDOM(): HTMLElement {
    return h("span", { class: "md-language" }, this.name);
  }
  override ignoreEvent(): boolean {
    return false;
  }
}

class Task extends WidgetType {
  constructor(
    readonly checked: boolean,
    readonly label: string,
    readonly disabled: boolean,
  ) {
    super();
  }
  override eq(other: Task): boolean {
    return other.checked === this.checked && other.label === this.label && other.disabled === this.disabled;
  }
  toDOM(view: EditorView): HTMLElement {
    const box = h("input", { type: "checkbox", "aria-label": this.label, disabled: this.disabled });
    box.checked = this.checked;
    box.addEventListener("change", () => tick(view, view.posAtDOM(box), box.checked));
    return h("span", { class: "md-hang md-task" }, box);
  }
  // The box that was ticked stays, and keeps the focus.
  override updateDOM(dom: HTMLElement): boolean {
    const box = dom.querySelector("input");
    if (!box) return false;
    box.checked = this.checked;
    box.disabled = this.disabled;
    box.setAttribute("aria-label", this.label);
    return true;
  }
}

const TASK = /^([\s>]*(?:[-*+]|\d+[.)])\s+\[)([ xX])\]/;

/** Ticks the task of the line at `pos`; without `wanted`, the other way round. */
function tick(view: EditorView, pos: number, wanted?: boolean): boolean {
  const { from, text } = view.state.doc.lineAt(pos);
  const found = TASK.exec(text);
  if (!found || view.state.readOnly) return false;
  const at = from + (found[1] as string).length;
  const checked = wanted ?? found[2] === " ";
  view.dispatch({ changes: { from: at, to: at + 1, insert: checked ? "x" : " " }, userEvent: "input" });
  return true;
}

export const toggleTask: Command = (view) => tick(view, view.state.selection.main.head);

class Picture extends WidgetType {
  constructor(
    readonly url: string,
    readonly alt: string,
  ) {
    super();
  }
  override eq(other: Picture): boolean {
    return other.url === this.url && other.alt === this.alt;
  }
  toDOM(view: EditorView): HTMLElement {
    return h("span", { class: "md-picture" }, picture(this.url, this.alt, () => view.requestMeasure()));
  }
  override ignoreEvent(): boolean {
    return false;
  }
}

class Formula extends WidgetType {
  constructor(
    readonly source: string,
    readonly alone: boolean,
  ) {
    super();
  }
  override eq(other: Formula): boolean {
    return other.source === this.source && other.alone === this.alone;
  }
  toDOM(view: EditorView): HTMLElement {
    const drawing = draw(this.source, () => view.requestMeasure());
    return this.alone ? h("div", { class: "md-formula" }, drawing) : drawing;
  }
  override ignoreEvent(): boolean {
    return false;
  }
}

/** The way out of a link whose source shows: for fingers, and for whoever does not know the key. */
class Way extends WidgetType {
  constructor(readonly href: string) {
    super();
  }
  override eq(other: Way): boolean {
    return other.href === this.href;
  }
  toDOM(): HTMLElement {
    return h("a", { class: "md-way", "aria-label": t.openLink(this.href), title: t.openLink(this.href), ...anchor(this.href) }, "↗");
  }
}

function decorate(view: EditorView): DecorationSet {
  const { state } = view;
  const { doc } = state;
  const current = state.facet(mode);
  const live = current !== "source";
  const ranges: Range<Decoration>[] = [];
  // Of a line in lists within lists the innermost counts, which comes last.
  const depths = new Map<number, number>();
  const indents = new Map<number, number>();

  const open = (from: number, to: number): boolean => isOpen(state, from, to);
  const lineOpen = (pos: number): boolean => {
    const { from, to } = doc.lineAt(pos);
    return open(from, to);
  };
  const hide = (from: number, to: number, value = hidden): void => {
    // A plugin must not hide the end of a line.
    if (from < to && to <= doc.lineAt(from).to) ranges.push(value.range(from, to));
  };
  const mark = (from: number, to: number, value: Decoration): void => {
    if (from < to) ranges.push(value.range(from, to));
  };
  const after = (pos: number): number => (doc.sliceString(pos, pos + 1) === " " ? pos + 1 : pos);
  const text = (from: number, to: number): string => doc.sliceString(from, to);

  const link = (node: SyntaxNode, from: number, to: number, href: string | null): void => {
    if (href === null) return;
    const title = current === "live" && !state.readOnly ? t.linkHint : undefined;
    // To select begins on a link too.
    const attributes = { class: "md-link", draggable: "false", ...anchor(href), ...(title ? { title } : {}) };
    mark(from, to, Decoration.mark({ tagName: "a", attributes }));
    if (current === "live" && open(node.from, node.to)) {
      ranges.push(Decoration.widget({ widget: new Way(href), side: 1 }).range(node.to));
    }
  };

  for (const { from, to } of view.visibleRanges) {
    const lines = (start: number, end: number, value: Decoration): void => {
      const last = doc.lineAt(Math.min(end, to)).number;
      for (let { number } = doc.lineAt(Math.max(start, from)); number <= last; number++) ranges.push(value.range(doc.line(number).from));
    };

    const list = (item: SyntaxNode): void => {
      let depth = 1;
      for (let up = item.parent?.parent; up; up = up.parent) if (up.name === "ListItem") depth++;
      const listMark = item.firstChild;
      if (!listMark) return;
      const content = after(listMark.to) - doc.lineAt(listMark.from).from;
      const last = doc.lineAt(Math.min(item.to, to)).number;
      for (let { number } = doc.lineAt(Math.max(item.from, from)); number <= last; number++) {
        const { from: start, text: said } = doc.line(number);
        depths.set(start, Math.min(depth, DEPTH_LIMIT));
        const leading = /^[ \t]*/.exec(said)?.[0] ?? "";
        const all = item.from === start + leading.length || leading.includes("\t");
        const size = all ? leading.length : Math.min(leading.length, content);
        if (size > 0) indents.set(start, start + size);
      }
    };
    syntaxTree(state).iterate({
      from,
      to,
      enter(ref: SyntaxNodeRef): boolean | void {
        const { name, from: start, to: end } = ref;
        const heading = /^(?:ATX|Setext)Heading([1-6])$/.exec(name);
        if (heading) {
          const level = Number(heading[1]) - 1;
          lines(start, end, (current === "reading" ? readHeadings : headings)[level] as Decoration);
          return;
        }
        switch (name) {
          case "HeaderMark": {
            const setext = ref.node.parent?.name.startsWith("Setext");
            const at = doc.lineAt(start);
            if (setext) {
              const parent = ref.node.parent as SyntaxNode;
              if (open(parent.from, parent.to)) return;
              hide(start, end);
              ranges.push(fold.range(at.from));
            } else if (!live || open(at.from, at.to)) {
              if (at.from === start && after(end) > end) mark(start, after(end), hang);
            } else if (end === (ref.node.parent?.to ?? 0) && start > (ref.node.parent?.from ?? 0)) {
              const space = /\s*$/.exec(text(at.from, start))?.[0].length ?? 0;
              hide(start - space, end);
            } else hide(start, after(end));
            return;
          }
          case "EmphasisMark":
          case "StrikethroughMark": {
            const parent = ref.node.parent;
            if (live && parent && !open(parent.from, parent.to)) hide(start, end);
            return;
          }
          case "CodeMark": {
            const parent = ref.node.parent;
            if (live && parent?.name === "InlineCode" && !open(parent.from, parent.to)) hide(start, end);
            return;
          }
          case "Escape":
            if (live && !open(start, end)) hide(start, start + 1);
            return;
          case "Link": {
            const node = ref.node;
            const parts = partsOf(node, text);
            const written = parts.url ?? referred(state, text(parts.from, parts.to), text(parts.to, end));
            if (written === null || !live) return;
            if (!open(start, end)) {
              // A link without words shows where it leads.
              if (parts.from < parts.to) {
                hide(start, parts.from);
                hide(parts.to, end);
              }
            }
            link(node, parts.from, parts.to, target(written));
            return;
          }
          case "URL": {
            const parent = ref.node.parent;
            if (!live || parent?.name === "Link" || parent?.name === "Image" || parent?.name === "LinkReference") return;
            link(parent?.name === "Autolink" ? parent : ref.node, start, end, target(text(start, end)));
            return;
          }
          case "Autolink":
            if (live && !open(start, end)) {
              hide(start, start + 1);
              hide(end - 1, end);
            }
            return;
          case "Image": {
            if (!live) return false;
            const parts = partsOf(ref.node, text);
            const widget = new Picture(parts.url ?? "", text(parts.from, parts.to));
            if (!open(start, end)) hide(start, end, Decoration.replace({ widget }));
            else ranges.push(Decoration.widget({ widget, side: 2 }).range(end));
            return false;
          }
          case "InlineMath": {
            if (!live) return;
            if (!open(start, end)) hide(start, end, Decoration.replace({ widget: new Formula(text(start, end), false) }));
            return false;
          }
          case "MathBlock":
            lines(start, end, block);
            return;
          case "ListItem":
            if (live) list(ref.node);
            return;
          case "ListMark": {
            const task = ref.node.parent?.getChild("Task")?.getChild("TaskMarker");
            const at = doc.lineAt(start);
            const space = after(end);
            if (task && task.from === space && live) {
              const checked = /x/i.test(text(task.from, task.to));
              if (checked) ranges.push(done.range(at.from));
              if (!open(start, task.to - 1)) {
                const label = text(task.to, at.to).replace(/[*_~`]+/g, "").trim() || t.task;
                const widget = new Task(checked, label, state.readOnly || current === "reading");
                hide(start, after(task.to), Decoration.replace({ widget }));
                return;
              }
              mark(start, task.to, hang);
              return;
            }
            if (space === end) return;
            if (!live) {
              if (at.from === start) mark(start, space, hang);
            } else if (ref.node.parent?.parent?.name === "BulletList" && !open(start, end)) hide(start, space, bullet);
            else mark(start, space, hang);
            return;
          }
          case "Blockquote": {
            let depth = 0;
            for (let up = ref.node.parent; up; up = up.parent) if (up.name === "Blockquote") depth++;
            lines(start, end, quotes[Math.min(depth, DEPTH_LIMIT - 1)] as Decoration);
            return;
          }
          case "QuoteMark":
            if (live && !lineOpen(start)) hide(start, after(end));
            return;
          case "FencedCode":
          case "CodeBlock": {
            lines(start, end, block);
            if (name === "CodeBlock" || !live) return;
            const [first, last] = [doc.lineAt(start), doc.lineAt(end)];
            if (first.from >= from && first.from <= to) ranges.push(blockFirst.range(first.from));
            if (last.from >= from && last.from <= to) ranges.push(blockLast.range(last.from));
            if (open(first.from, last.to)) return;
            const info = ref.node.getChild("CodeInfo");
            const said = info ? text(info.from, info.to) : "";
            const widget = new Language(languageOf(said)?.name ?? said);
            hide(start, first.to, Decoration.replace({ widget }));
            if (said === "") ranges.push(shut.range(first.from));
            const close = ref.node.lastChild;
            if (close?.name === "CodeMark" && close.from >= last.from && last.number > first.number) {
              hide(close.from, last.to);
              ranges.push(shut.range(last.from));
            }
            return;
          }
          case "HorizontalRule":
            if (!live || lineOpen(start)) return;
            hide(start, end);
            ranges.push(rule.range(doc.lineAt(start).from));
            return;
          case "Table":
            if (live && isBlock(ref.node) && !open(doc.lineAt(start).from, doc.lineAt(end).to)) return false;
            if (live) lines(start, end, tableSource);
            return;
        }
      },
    });
  }
  for (const [start, end] of indents) hide(start, end);
  for (const [start, depth] of depths) ranges.push((items[depth - 1] as Decoration).range(start));
  return Decoration.set(ranges, true);
}

/** What `[text][name]` leads to: the definition is somewhere in the text, and looked for when one is on the screen. */
function referred(state: EditorState, label: string, tail: string): string | null {
  const name = (/^\]\[([^\]]+)\]$/.exec(tail)?.[1] ?? label).trim().toLowerCase();
  const tree = syntaxTree(state);
  const rests = state.doc.length > DEFINITIONS_LENGTH ? DEFINITIONS_MS : 0;
  if (definitions.tree !== tree && Date.now() - definitions.when >= rests) {
    definitions.tree = tree;
    definitions.when = Date.now();
    definitions.known.clear();
    const cursor = tree.cursor();
    if (cursor.firstChild()) {
      do {
        if (cursor.name !== "LinkReference") continue;
        const [head, url] = [cursor.node.getChild("LinkLabel"), cursor.node.getChild("URL")];
        if (!head || !url) continue;
        const said = state.sliceDoc(head.from + 1, head.to - 1).trim().toLowerCase();
        if (!definitions.known.has(said)) definitions.known.set(said, state.sliceDoc(url.from, url.to));
      } while (cursor.nextSibling());
    }
  }
  return definitions.known.get(name) ?? null;
}
// In a long text, not with every key.
const DEFINITIONS_LENGTH = 50_000;
const DEFINITIONS_MS = 3_000;
const definitions = { tree: null as object | null, when: 0, known: new Map<string, string>() };

const lineDrawings = ViewPlugin.fromClass(
  class {
    decorations: DecorationSet;
    private stale = false;
    constructor(view: EditorView) {
      this.decorations = decorate(view);
    }
    update(update: ViewUpdate): void {
      const { state, startState } = update;
      const changed =
        update.docChanged ||
        update.viewportChanged ||
        syntaxTree(state) !== syntaxTree(startState) ||
        state.field(points) !== startState.field(points) ||
        state.facet(mode) !== startState.facet(mode) ||
        state.readOnly !== startState.readOnly ||
        update.transactions.some((transaction) => transaction.effects.some((effect) => effect.is(redraw)));
      if (!changed && !this.stale) return;
      // An input method loses the word it is making if the line is drawn again under it.
      this.stale = update.view.composing;
      if (this.stale) this.decorations = this.decorations.map(update.changes);
      else this.decorations = decorate(update.view);
    }
  },
  {
    decorations: (value) => value.decorations,
    eventHandlers: {
      // CodeMirror settles what was composed a moment after the event.
      compositionend: (_event, view) => void setTimeout(() => view.dispatch({ effects: redraw.of(null) }), 80),
    },
  },
);

// -- In the place of lines

interface Blocks {
  from: number;
  to: number;
  decorations: DecorationSet;
}

const widen = StateEffect.define<{ from: number; to: number }>();

function isBlock(node: SyntaxNode): boolean {
  return node.parent?.name === "Document";
}

function drawBlocks(state: EditorState, from: number, to: number, parser: MarkdownParser): DecorationSet {
  if (state.facet(mode) === "source") return RangeSet.empty;
  const { doc } = state;
  const reading = state.facet(mode) === "reading" || state.readOnly;
  const ranges: Range<Decoration>[] = [];
  syntaxTree(state).iterate({
    from,
    to,
    enter(ref) {
      if (ref.name === "Document") return true;
      if (ref.name !== "Table" && ref.name !== "MathBlock") return false;
      const [start, end] = [doc.lineAt(ref.from).from, doc.lineAt(ref.to).to];
      const source = doc.sliceString(ref.from, ref.to);
      const widget = ref.name === "Table" ? new TableWidget(doc.sliceString(start, end), parser, reading) : new Formula(source, true);
      if (!isOpen(state, start, end)) ranges.push(Decoration.replace({ widget, block: true }).range(start, end));
      else if (ref.name === "MathBlock") ranges.push(Decoration.widget({ widget, block: true, side: 1 }).range(end));
      return false;
    },
  });
  return Decoration.set(ranges, true);
}

function blockDrawings(parser: MarkdownParser): StateField<Blocks> {
  return StateField.define<Blocks>({
    create(state) {
      const to = Math.min(2 * MARGIN, state.doc.length);
      return { from: 0, to, decorations: drawBlocks(state, 0, to, parser) };
    },
    update(value, transaction: Transaction) {
      let { from, to } = value;
      const { state, startState, changes } = transaction;
      if (transaction.docChanged) [from, to] = [changes.mapPos(from, -1), changes.mapPos(to, 1)];
      let changed = false;
      for (const effect of transaction.effects) {
        if (effect.is(widen)) [from, to, changed] = [effect.value.from, Math.min(effect.value.to, state.doc.length), true];
        if (effect.is(redraw)) changed = true;
      }
      changed ||=
        transaction.docChanged ||
        syntaxTree(state) !== syntaxTree(startState) ||
        state.field(points) !== startState.field(points) ||
        state.facet(mode) !== startState.facet(mode) ||
        state.readOnly !== startState.readOnly;
      if (!changed) return value;
      if (transaction.isUserEvent("input.type.compose")) return { from, to, decorations: value.decorations.map(changes) };
      return { from, to, decorations: drawBlocks(state, from, to, parser) };
    },
    provide: (field) => EditorView.decorations.from(field, (value) => value.decorations),
  });
}

/** Keeps the window of drawn blocks around what is visible. */
function following(blocks: StateField<Blocks>): Extension {
  return ViewPlugin.fromClass(
    class {
      private asked = false;
      constructor(view: EditorView) {
        this.look(view);
      }
      update({ view, viewportChanged, docChanged }: ViewUpdate): void {
        if (viewportChanged || docChanged) this.look(view);
      }
      private look(view: EditorView): void {
        const { from, to } = view.viewport;
        const around = view.state.field(blocks);
        const { length } = view.state.doc;
        const fits = around.from <= Math.max(0, from - MARGIN / 2) && around.to >= Math.min(length, to + MARGIN / 2);
        if (this.asked || (fits && around.to - around.from < to - from + 4 * MARGIN)) return;
        this.asked = true;
        // After this update, and before anything is painted.
        queueMicrotask(() => {
          this.asked = false;
          const { from, to } = view.viewport;
          view.dispatch({ effects: widen.of({ from: Math.max(0, from - MARGIN), to: to + MARGIN }) });
        });
      }
    },
  );
}

/** Up and down go into what stands in the place of lines, and do not jump over it. */
function vertical(blocks: StateField<Blocks>, forward: boolean): Command {
  return (view) => {
    const { state } = view;
    const { main } = state.selection;
    if (!main.empty || state.readOnly || state.facet(mode) !== "live") return false;
    const here = state.doc.lineAt(main.head);
    const beside = forward ? here.to + 1 : here.from - 1;
    if (beside < 0 || beside > state.doc.length) return false;
    let into: number | null = null;
    state.field(blocks).decorations.between(beside, beside, (from, to, value) => {
      if (value.spec.block && from < to) into = forward ? from : state.doc.lineAt(to).from;
    });
    if (into === null) return false;
    const moved = view.moveVertically(main, forward);
    // Still within the rows of this line.
    if (moved.head >= here.from && moved.head <= here.to && moved.head !== main.head) return false;
    view.dispatch({ selection: EditorSelection.cursor(into), scrollIntoView: true, userEvent: "select" });
    return true;
  };
}

// -- Links

function hrefAt(event: MouseEvent): string | null {
  return (event.target instanceof Element && event.target.closest<HTMLAnchorElement>("a[href]")?.href) || null;
}

const links = EditorView.domEventHandlers({
  mousedown(event, view) {
    // The key means the link here, not one more caret.
    if ((event.ctrlKey || event.metaKey) && hrefAt(event) && view.state.facet(mode) !== "source") event.preventDefault();
    return false;
  },
  click(event, view) {
    const href = hrefAt(event);
    const inside = event.target instanceof Element && event.target.closest(".md-way, .md-table") !== null;
    // Where nothing can be written, the browser follows links by itself.
    if (href === null || !view.contentDOM.isContentEditable) return false;
    if (!(event.ctrlKey || event.metaKey) && !(inside && event.target.closest(".md-way"))) {
      event.preventDefault();
      // A finger on a link means it to the browser; here it means the caret, and then the way out beside it.
      const place = (event as PointerEvent).pointerType === "touch" && view.posAtCoords(event);
      if (typeof place !== "number") return false;
      view.dispatch({ selection: { anchor: place }, userEvent: "select.pointer" });
      view.focus();
      return true;
    }
    event.preventDefault();
    follow(href);
    return true;
  },
  auxclick(event, view) {
    const href = hrefAt(event);
    if (event.button !== 1 || href === null || !view.contentDOM.isContentEditable) return false;
    event.preventDefault();
    follow(href);
    return true;
  },
});

export function preview(parser: MarkdownParser): Extension {
  const blocks = blockDrawings(parser);
  return [
    points,
    EditorView.focusChangeEffect.of((state, focusing) => (focusing && !state.field(points).entered ? enter.of(null) : null)),
    holding,
    lineDrawings,
    blocks,
    following(blocks),
    links,
    Prec.high(
      keymap.of([
        { key: "ArrowDown", run: vertical(blocks, true) },
        { key: "ArrowUp", run: vertical(blocks, false) },
      ]),
    ),
    EditorView.editorAttributes.compute([mode], (state) => ({ class: `md-${state.facet(mode)}` })),
  ];
}

