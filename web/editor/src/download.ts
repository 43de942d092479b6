/** The document as a file: made by the server, but for plain Markdown, which is here already. */

import { at, mayWrite, Refused } from "./api";
import "./download.css";
import { announce, h, toast } from "./element";
import type { Replica } from "./replica";
import { t } from "./strings";

const s = t.downloads;
const FORMATS = ["docx", "pdf", "html", "markdown", "zip", "archive"] as const;
type Format = (typeof FORMATS)[number];
const PATIENCE_MS = 100_000;
const SAVED_MS = 10_000;

/** Shows what there is to choose, or hides it again. */
export function toggle(replica: Replica, button: HTMLButtonElement): void {
  const shown = document.getElementById("downloads");
  if (shown) return shown.hidePopover();
  const offered = FORMATS.filter((format) => format !== "archive" || (replica.role !== null && mayWrite(replica.role)));
  const items = offered.map((format) => {
    const choice = h("button", {}, h("b", {}, s.formats[format]), h("span", {}, s.hints[format]));
    choice.addEventListener("click", () => {
      menu.hidePopover();
      void save(replica, format);
    });
    return h("li", {}, choice);
  });
  const menu = h("div", { class: "sheet downloads", id: "downloads", popover: "auto", role: "dialog", "aria-label": s.title }, h("h2", {}, s.title), h("ul", {}, ...items));
  menu.addEventListener("toggle", ({ newState }: ToggleEvent) => {
    button.setAttribute("aria-expanded", String(newState === "open"));
    if (newState === "closed") menu.remove();
  });
  button.after(menu);
  menu.showPopover({ source: button });
  menu.querySelector("button")?.focus();
}

async function save(replica: Replica, format: Format): Promise<void> {
  if (format === "markdown") {
    give(new Blob([replica.text.toString()], { type: "text/markdown" }), `${plain(replica.title || replica.name)}.md`);
    return;
  }
  toast(s.making(s.formats[format]));
  const path = format === "archive" ? "export" : `download?format=${format}`;
  try {
    // The server makes it of what it has.
    const whole = await replica.saved(SAVED_MS);
    const answer = await fetch(`/api${at(replica.name)}/${path}`, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
    if (!answer.ok) {
      const problem = (await answer.json().catch(() => ({}))) as { code?: string; detail?: string };
      throw new Refused(answer.status, problem.code ?? "unknown", problem.detail ?? answer.statusText);
    }
    const file = await answer.blob();
    give(file, nameIn(answer.headers.get("content-disposition") ?? ""));
    toast((whole ? s.made : s.madeWithout)(s.formats[format]));
  } catch (error) {
    const message = error instanceof Refused ? t.failed(error.message) : t.unreachable;
    toast(message);
    announce(message);
  }
}

function give(file: Blob, name: string): void {
  const url = URL.createObjectURL(file);
  const link = h("a", { href: url, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** The name that the server gives to a file. */
function nameIn(disposition: string): string {
  const full = /filename\*=UTF-8''([^;]+)/.exec(disposition)?.[1];
  return full ? decodeURIComponent(full) : (/filename="([^"]*)"/.exec(disposition)?.[1] ?? "document");
}

const plain = (name: string): string => name.replace(/[/\\:*?"<>|]+/g, "-").trim();
