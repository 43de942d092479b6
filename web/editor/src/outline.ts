/** The outline: headings with their levels, where one is among them, and how long the text is. */

import { ensureSyntaxTree, syntaxTree } from "@codemirror/language";
import type { EditorState, Text } from "@codemirror/state";
import { EditorView } from "@codemirror/view";
import { said } from "./count";
import type { Editor } from "./editor";
import { h, icon } from "./element";
import { t } from "./strings";
import "./outline.css";

const LOOK_MS = 300;
const PARSE_MS = 150;
const narrow = matchMedia("(max-width: 78rem)");

interface Heading {
  from: number;
  level: number;
  text: string;
}

/** The words of a heading without their marks. */
function plain(source: string): string {
  return source
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/(\*\*|__|~~|`|\$|(?<!\w)[*_]|[*_](?!\w))/g, "")
    .replace(/\\(?=[!-/:-@[-`{-~])/g, "")
    .trim();
}

function headingsOf(state: EditorState): Heading[] {
  const tree = ensureSyntaxTree(state, state.doc.length, PARSE_MS) ?? syntaxTree(state);
  const found: Heading[] = [];
  tree.iterate({
    enter({ name, from, to, node }) {
      if (name === "Document") return true;
      const level = /^(?:ATX|Setext)Heading([1-6])$/.exec(name)?.[1];
      if (level) {
        const first = node.firstChild?.name === "HeaderMark" && node.firstChild.from === from ? node.firstChild.to : from;
        const text = state.doc.lineAt(from).text.slice(first - state.doc.lineAt(from).from).replace(/\s+#+\s*$/, "");
        found.push({ from, level: Number(level), text: plain(to > from ? text : "") });
      }
      return false;
    },
  });
  return found;
}

export function open(writing: Editor, closed: (byKey: boolean) => void): { close(byKey?: boolean): void } {
  const { view } = writing;
  const list = h("ol", {});
  const lengths = h("dl", {});
  const shut = h("button", { class: "tool-button", "aria-label": t.closeOutline, title: t.closeOutline, onclick: () => close(true) }, icon("M5 5l10 10M15 5L5 15"));
  const panel = h("nav", { class: "outline", "aria-label": t.outline }, h("header", {}, h("h2", {}, t.outline), shut), list, lengths);
  let headings: Heading[] = [];
  let doc: Text | null = null;
  let timer = 0;
  let gone = false;

  const goTo = ({ from }: Heading): void => {
    const anchor = view.state.doc.lineAt(Math.min(from, view.state.doc.length)).to;
    view.dispatch({ selection: { anchor }, effects: EditorView.scrollIntoView(anchor, { y: "start", yMargin: 16 }) });
    view.focus();
    if (narrow.matches) close();
    window.setTimeout(mark, 80);
  };
  const draw = (): void => {
    timer = 0;
    if (gone) return;
    const { state } = view;
    if (state.doc !== doc) {
      doc = state.doc;
      const now = headingsOf(state);
      const changed = JSON.stringify(now) !== JSON.stringify(headings);
      headings = now;
      if (changed || list.childElementCount === 0) {
        const top = Math.min(...headings.map(({ level }) => level));
        const items = headings.map((heading, at) =>
          h(
            "li",
            { "data-level": Math.min(heading.level - top + 1, 5) },
            h("button", { onclick: () => goTo(headings[at] as Heading) }, heading.text || t.untitled),
          ),
        );
        list.replaceChildren(...(items.length > 0 ? items : [h("li", { class: "note" }, t.noHeadings)]));
      }
    }
    mark();
    lengths.replaceChildren(...said(state).rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  };
  /** The heading under whose words one reads. */
  const mark = (): void => {
    const bars = document.querySelector(".tools")?.getBoundingClientRect();
    const head = bars && bars.top < innerHeight / 2 ? bars.bottom : 60;
    const here = view.lineBlockAtHeight(Math.max(0, head + 60 - view.documentTop)).from;
    let current = -1;
    headings.forEach(({ from }, at) => from <= here && (current = at));
    list.querySelectorAll("button").forEach((button, at) => {
      if (at === current) {
        if (button.getAttribute("aria-current") !== "true") button.scrollIntoView({ block: "nearest" });
        button.setAttribute("aria-current", "true");
      } else button.removeAttribute("aria-current");
    });
  };
  let marking = 0;
  const onScroll = (): void => {
    marking ||= requestAnimationFrame(() => {
      marking = 0;
      if (!gone) mark();
    });
  };
  const onKey = (event: KeyboardEvent): void => {
    if (event.key !== "Escape" || event.defaultPrevented || !(panel.contains(document.activeElement) || narrow.matches)) return;
    event.preventDefault();
    close(true);
  };
  function close(byKey = false): void {
    if (gone) return;
    gone = true;
    panel.remove();
    removeEventListener("scroll", onScroll);
    removeEventListener("keydown", onKey);
    closed(byKey);
  }
  writing.watch(() => {
    if (!gone) timer ||= window.setTimeout(draw, LOOK_MS);
  });
  addEventListener("scroll", onScroll, { passive: true });
  addEventListener("keydown", onKey);
  view.dom.parentElement?.append(panel); // it goes and comes with the text
  draw();
  list.querySelector("button")?.focus();
  return { close };
}
