/** HTML of other programs as Markdown: web pages, Word, Google Docs, spreadsheets. Loaded at the first such paste. */

import Turndown from "turndown";

const BLOCKS = "p, div, ul, ol, table, pre, blockquote, h1, h2, h3, h4, h5, h6, hr";

function service(): Turndown {
  const turndown = new Turndown({
    headingStyle: "atx",
    hr: "---",
    bulletListMarker: "-",
    codeBlockStyle: "fenced",
    emDelimiter: "*",
  });
  turndown.remove(["script", "style", "title", "meta", "link", "noscript", "template", "button", "iframe", "object"]);
  turndown.addRule("struck", {
    filter: ["del", "s", "strike" as "s"],
    replacement: (content) => (content.trim() ? `~~${content}~~` : content),
  });
  turndown.addRule("item", {
    filter: "li",
    replacement(content, node, { bulletListMarker }) {
      const list = node.parentElement;
      const at = list?.tagName === "OL" ? Number(list.getAttribute("start") ?? 1) + [...list.children].indexOf(node as HTMLElement) : null;
      const mark = at === null ? `${bulletListMarker ?? "-"} ` : `${at}. `;
      const said = content.trim().replace(/\n{2,}(?=\s*(?:[-*+]|\d+\.)\s)/g, "\n").replace(/\n(?=.)/g, `\n${" ".repeat(mark.length)}`);
      return `${mark}${said}${node.nextSibling ? "\n" : ""}`;
    },
  });
  turndown.addRule("box", {
    filter: (node) => node.nodeName === "INPUT" && node.getAttribute("type") === "checkbox",
    replacement: (_content, node) => ((node as HTMLInputElement).hasAttribute("checked") ? "[x] " : "[ ] "),
  });
  // Only what a reader could follow or see.
  turndown.addRule("picture", {
    filter: "img",
    replacement(_content, node) {
      const [src, alt] = [(node as HTMLElement).getAttribute("src") ?? "", (node as HTMLElement).getAttribute("alt") ?? ""];
      return /^https?:/i.test(src) ? `![${alt.replace(/[[\]\n]/g, " ").trim()}](${src.replace(/[()\s]/g, encodeURIComponent)})` : "";
    },
  });
  turndown.addRule("away", {
    filter: (node) => node.nodeName === "A" && !/^(?:https?|mailto):/i.test(node.getAttribute("href") ?? ""),
    replacement: (content) => content,
  });
  turndown.addRule("code", {
    filter: (node) => node.nodeName === "PRE",
    replacement(_content, node) {
      const text = (node.textContent ?? "").replace(/\n$/, "");
      const language = /\b(?:language|lang|highlight-source)-([\w+#-]+)/.exec((node as HTMLElement).innerHTML.slice(0, 500) + (node as HTMLElement).className)?.[1] ?? "";
      const ticks = "`".repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
      return `\n\n${ticks}${language}\n${text}\n${ticks}\n\n`;
    },
  });
  turndown.addRule("table", {
    filter: (node) => node.nodeName === "TABLE" && isData(node as HTMLTableElement),
    replacement: (_content, node) => `\n\n${table(node as HTMLTableElement, turndown)}\n\n`,
  });
  for (const [name, tags] of [["row", ["tr"]], ["cell", ["td", "th"]]] as const) {
    // Of a table that only lays out a page.
    turndown.addRule(name, { filter: tags as unknown as "tr"[], replacement: (content) => `${content.trim()}\n\n` });
  }
  return turndown;
}

/** A table of things, and not a way to put a page together. */
function isData(table: HTMLTableElement): boolean {
  const width = Math.max(0, ...[...table.rows].map((row) => row.cells.length));
  return !table.querySelector("table") && table.rows.length > 0 && (width > 1 || table.rows.length > 1) && !table.querySelector("td pre, td h1, td h2, td h3");
}

function table(element: HTMLTableElement, turndown: Turndown): string {
  const rows: string[][] = [];
  for (const row of element.rows) {
    const cells: string[] = [];
    for (const cell of row.cells) {
      const copy = cell.cloneNode(true) as HTMLElement;
      // A list in a cell: its items, one after another.
      copy.querySelectorAll("li").forEach((item) => item.replaceWith(...item.childNodes, item.ownerDocument.createElement("br")));
      copy.querySelectorAll("ul, ol, p, div").forEach((block) => block.replaceWith(...block.childNodes, block.ownerDocument.createElement("br")));
      const said = turndown.turndown(copy).trim();
      cells.push(said.replace(/\|/g, "\\|").replace(/\s*\n\s*/g, "<br>").replace(/(?:<br>)+$/, ""));
      for (let more = 1; more < Math.min(cell.colSpan, 50); more++) cells.push("");
    }
    rows.push(cells);
  }
  // What a spreadsheet pads its selection with.
  while (rows.length > 1 && rows.at(-1)?.every((cell) => cell === "")) rows.pop();
  const width = Math.max(...rows.map((cells) => cells.length));
  const line = (cells: string[]): string => `| ${Array.from({ length: width }, (_, at) => cells[at] ?? "").join(" | ")} |`;
  const ends = [...(element.rows[1]?.cells ?? element.rows[0]?.cells ?? [])].map((cell) => {
    const style = (cell.getAttribute("style") ?? "") + (cell.getAttribute("align") ?? "");
    return /text-align:\s*right|^right$/i.test(style) ? "---:" : /text-align:\s*center|^center$/i.test(style) ? ":---:" : "---";
  });
  const [head = [], ...body] = rows;
  return [line(head), line(Array.from({ length: width }, (_, at) => ends[at] ?? "---")), ...body.map(line)].join("\n");
}

function rename(element: Element, tag: string): Element {
  const renamed = element.ownerDocument.createElement(tag);
  renamed.append(...element.childNodes);
  element.replaceWith(renamed);
  return renamed;
}

/** Word writes lists as paragraphs that look like items, with their bullets as text. */
function wordLists(body: HTMLElement): void {
  const lists: { level: number; element: HTMLElement }[] = [];
  let previous: Element | null = null;
  for (const paragraph of [...body.querySelectorAll<HTMLElement>("p, h1, h2, h3, h4, h5, h6")]) {
    const style = paragraph.getAttribute("style") ?? "";
    const level = Number(/mso-list:\s*l\d+\s+level(\d+)/i.exec(style)?.[1] ?? 0);
    if (level === 0) continue;
    const bullet = [...paragraph.querySelectorAll("span")].find((span) => /mso-list:\s*ignore/i.test(span.getAttribute("style") ?? ""));
    const ordered = /^\s*(?:\d+|[a-z]|[ivx]+)[.)]/i.test(bullet?.textContent ?? "");
    bullet?.remove();
    if (previous === null || paragraph.previousElementSibling !== previous) lists.length = 0;
    while (lists.length > 0 && (lists.at(-1)?.level ?? 0) > level) lists.pop();
    const document = paragraph.ownerDocument;
    if (lists.length === 0 || (lists.at(-1)?.level ?? 0) < level) {
      const list = document.createElement(ordered ? "ol" : "ul");
      const parent = lists.at(-1)?.element;
      if (parent) (parent.lastElementChild ?? parent).append(list);
      else {
        paragraph.before(list);
        previous = list;
      }
      lists.push({ level, element: list });
    }
    const item = document.createElement("li");
    item.append(...paragraph.childNodes);
    lists.at(-1)?.element.append(item);
    paragraph.remove();
  }
}

/** Google Docs and others say with styles what elements are for. */
function styles(body: HTMLElement): void {
  for (const element of [...body.querySelectorAll<HTMLElement>("b, strong, span, p, div, li, a, font")].reverse()) {
    const style = element.getAttribute("style") ?? "";
    const tag = element.tagName;
    if ((tag === "B" || tag === "STRONG") && /font-weight:\s*(?:normal|[1-4]00)/i.test(style)) {
      rename(element, "span");
      continue;
    }
    if (tag !== "SPAN" && tag !== "FONT") continue;
    const wrap = (name: string): void => {
      const inner = element.ownerDocument.createElement(name);
      inner.append(...element.childNodes);
      element.append(inner);
    };
    if (element.closest("pre, h1, h2, h3, h4, h5, h6") || !element.textContent?.trim()) continue;
    if (/font-weight:\s*(?:bold|[6-9]00)/i.test(style)) wrap("strong");
    if (/font-style:\s*italic/i.test(style)) wrap("em");
    if (/text-decoration[^;]*line-through/i.test(style)) wrap("del");
    if (/font-family:[^;]*(?:mono|courier|consolas|menlo)/i.test(style)) wrap("code");
  }
}

export function markdownOf(html: string): string {
  // A document of its own: nothing in it is loaded or run. Chromium complains of handlers and bases even there.
  const quiet = html.replace(/<base\b[^>]*>/gi, "").replace(/<[a-z][^>]*>/gi, (tag) => tag.replace(/[\s/"'`]on\w+\s*=/gi, " data-on="));
  const { body } = new DOMParser().parseFromString(quiet, "text/html");
  body.querySelectorAll("script, style, template, meta, link, title, o\\:p").forEach((element) => (element.tagName === "O:P" ? element.replaceWith(...element.childNodes) : element.remove()));
  const walker = body.ownerDocument.createTreeWalker(body, NodeFilter.SHOW_COMMENT);
  const comments: Node[] = [];
  while (walker.nextNode()) comments.push(walker.currentNode);
  comments.forEach((comment) => comment.parentNode?.removeChild(comment));
  wordLists(body);
  styles(body);
  // A paragraph in an item or a cell says nothing that the item does not.
  body.querySelectorAll("li > p:only-child, li > p:first-child").forEach((paragraph) => paragraph.replaceWith(...paragraph.childNodes));
  // Google Docs wraps blocks in one inline element.
  body.querySelectorAll("b, span, font").forEach((element) => element.querySelector(BLOCKS) && element.replaceWith(...element.childNodes));
  const markdown = service().turndown(body);
  return markdown.replace(/\u00a0/g, " ").replace(/[ \t]+$/gm, "").replace(/^ (?=\S)/gm, "").replace(/\n{3,}/g, "\n\n").trim();
}
