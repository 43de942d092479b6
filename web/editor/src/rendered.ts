/** Markdown within a line as elements, for the cells of a table: from the syntax tree, never from markup. */

import type { SyntaxNode } from "@lezer/common";
import { h } from "./element";
import { anchor, source, target } from "./link";
import { draw } from "./math";
import { t } from "./strings";
import { ownAddress } from "./waiting";

const TAGS: Record<string, "strong" | "em" | "del"> = { StrongEmphasis: "strong", Emphasis: "em", Strikethrough: "del" };

// Whoever put it into the text may be on a bad line, and send it a little later.
const LATER_MS = [4_000, 20_000, 120_000];

/** What a picture shows: itself if this server keeps it, otherwise a link that says so. */
export function picture(written: string, alt: string, drawn: () => void, tries = 0): HTMLElement {
  const src = source(written);
  const away = (): HTMLElement => {
    const href = target(written);
    const label = alt || written;
    if (href === null) return h("span", { class: "md-elsewhere" }, label);
    return h("a", { class: "md-elsewhere", title: t.imageElsewhere, ...anchor(href) }, label);
  };
  if (src === null) return away();
  const image = h("img", { class: "md-image", src, alt, decoding: "async", draggable: "false" });
  image.addEventListener("load", drawn);
  image.addEventListener("error", () => {
    const own = ownAddress(src);
    if (own !== null && image.src !== own) {
      image.src = own; // the document came here under another name, and brought its images
      return;
    }
    const missing = h("span", { class: "md-elsewhere", title: t.imageMissing }, alt || t.imageMissing);
    image.replaceWith(missing);
    drawn();
    const pause = LATER_MS[tries];
    if (pause === undefined) return;
    setTimeout(() => {
      if (!missing.isConnected) return;
      missing.replaceWith(picture(written, alt, drawn, tries + 1));
      drawn();
    }, pause);
  });
  return image;
}

/** The parts of a link or an image: where its text ends, and what it leads to. */
export function partsOf(node: SyntaxNode, text: (from: number, to: number) => string): { from: number; to: number; url: string | null } {
  const marks = node.getChildren("LinkMark");
  const url = node.getChild("URL");
  const from = marks[0]?.to ?? node.from;
  return { from, to: marks[1]?.from ?? node.to, url: url ? text(url.from, url.to) : null };
}

/** The inside of `parent` from `from` to `to`. */
export function inline(text: string, parent: SyntaxNode, from: number, to: number, drawn: () => void): (Node | string)[] {
  const parts: (Node | string)[] = [];
  let at = from;
  const plain = (end: number): void => {
    if (end > at) parts.push(text.slice(at, end));
  };
  const within = (a: number, b: number): string => text.slice(a, b);
  for (let node = parent.firstChild; node; node = node.nextSibling) {
    if (node.from < from || node.to > to) continue;
    const shown = element(node);
    if (shown === null) continue;
    plain(node.from);
    if (shown !== "") parts.push(shown);
    at = node.to;
  }
  plain(to);
  return parts;

  function element(node: SyntaxNode): Node | string | null {
    const { name } = node;
    const tag = TAGS[name];
    if (tag) return h(tag, {}, ...inline(text, node, node.from, node.to, drawn));
    switch (name) {
      case "InlineCode": {
        const marks = node.getChildren("CodeMark");
        return h("code", { class: "md-code" }, text.slice(marks[0]?.to ?? node.from, marks.at(-1)?.from ?? node.to));
      }
      case "Link": {
        const { from: start, to: end, url } = partsOf(node, within);
        const href = url === null ? null : target(url);
        const inside = inline(text, node, start, end, drawn);
        return href === null ? h("span", {}, ...inside) : h("a", { class: "md-link", ...anchor(href) }, ...inside);
      }
      case "Image": {
        const { from: start, to: end, url } = partsOf(node, within);
        return picture(url ?? "", text.slice(start, end), drawn);
      }
      case "URL": {
        const href = target(text.slice(node.from, node.to));
        const label = text.slice(node.from, node.to);
        return href === null ? label : h("a", { class: "md-link", ...anchor(href) }, label);
      }
      case "Autolink":
        return h("span", {}, ...inline(text, node, node.from, node.to, drawn));
      case "Escape":
        return text.slice(node.from + 1, node.to);
      case "InlineMath":
        return draw(text.slice(node.from, node.to), drawn);
      case "HTMLTag":
        return /^<br\s*\/?>$/i.test(text.slice(node.from, node.to)) ? h("br") : null;
      case "EmphasisMark":
      case "StrikethroughMark":
      case "LinkMark":
        return "";
      default:
        return null;
    }
  }
}
