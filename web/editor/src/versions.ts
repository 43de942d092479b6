/** The list of versions under the days on which they were written; more come as one scrolls. */

import { Refused } from "./api";
import type { Authors } from "./authors";
import { h } from "./element";
import { PAGE, type Record, type Version } from "./record";
import { t } from "./strings";

export interface Listener {
  /** This version is to be shown. */
  chosen(version: Version): void;
  /** This version is to be compared with. */
  based(version: Version): void;
  /** There are other versions in the list than before. */
  loaded(): void;
}

export class Versions {
  readonly element: HTMLElement;
  /** Newest first, as far as loaded. */
  all: Version[] = [];
  private readonly list = h("div", { class: "days" }, h("p", { class: "note" }, t.opening));
  private readonly more = h("div", { class: "more-versions" });
  private named = false;
  private next: string | null = null;
  private loading: Promise<void> | null = null;
  /** What is shown, and what it is compared with, by an entry within. */
  private at = 0;
  private base = 0;

  constructor(
    private readonly record: Record,
    private readonly authors: Authors,
    private readonly listener: Listener,
  ) {
    this.element = h("div", { class: "versions" }, this.list, this.more);
    new IntersectionObserver(
      ([entry]) => entry?.isIntersecting && this.next !== null && void this.load(),
      { root: this.element, rootMargin: "300px" },
    ).observe(this.more);
    this.element.addEventListener("keydown", (event) => this.onKey(event));
  }

  /** Only those with a name, or all. */
  async only(named: boolean): Promise<void> {
    while (this.loading) await this.loading;
    this.named = named;
    [this.all, this.next] = [[], null];
    await this.load();
  }

  /** Loads the first page, or the following one. Never raises: what is wrong is said in the list. */
  load(): Promise<void> {
    this.loading ??= this.fetch(this.next === null ? "first" : "next").finally(() => (this.loading = null));
    return this.loading;
  }

  /** Asks again for all that is loaded, or only for the newest. */
  async refresh(all: boolean): Promise<void> {
    while (this.loading) await this.loading;
    this.loading = this.fetch(all || this.named ? "all" : "newest").finally(() => (this.loading = null));
    await this.loading;
  }

  containing(seq: number): Version | undefined {
    return this.all.find((version) => version.seq_from <= seq && seq <= version.seq_to);
  }

  /** Marks the version with entry `at`, and the one with `base`. */
  mark(at: number, base: number): void {
    [this.at, this.base] = [at, base];
    for (const row of this.rows()) this.markRow(row);
  }

  focus(): void {
    const chosen = this.list.querySelector<HTMLElement>("[aria-current=true]") ?? this.rows()[0];
    chosen?.focus();
    chosen?.scrollIntoView({ block: "nearest" });
  }

  private async fetch(what: "first" | "next" | "newest" | "all"): Promise<void> {
    try {
      const limit = what === "all" ? Math.max(PAGE, this.all.length) : PAGE;
      const page = await this.record.versions(this.named, limit, what === "next" ? this.next : null);
      if (what === "next") this.all.push(...page.versions);
      else {
        const oldest = page.versions.at(-1)?.seq_from ?? 0;
        let older = what === "newest" ? this.all.filter((version) => version.seq_to < oldest) : [];
        // So much was written meanwhile that a page does not reach back to what is here.
        if (older[0]?.seq_to !== oldest - 1) older = [];
        this.all = [...page.versions, ...older];
        if (older.length > 0) page.next = this.next;
      }
      this.next = page.next;
      this.more.replaceChildren();
      this.draw();
      this.listener.loaded();
    } catch (error) {
      // Nobody has made it: nothing was written in it.
      if (error instanceof Refused && error.status === 404) return this.draw();
      if (this.all.length === 0) this.list.replaceChildren();
      const said = error instanceof Refused ? t.failed(error.message) : t.unreachable;
      const again = h("button", { class: "quiet", onclick: () => (this.more.replaceChildren(), void this.load()) }, t.tryAgain);
      this.more.replaceChildren(h("p", { class: "note", role: "alert" }, said), again);
    }
  }

  private draw(): void {
    const focused = this.list.contains(document.activeElement) ? this.rowOf(document.activeElement)?.dataset.from : undefined;
    const days: HTMLElement[] = [];
    let day = "";
    let rows: HTMLElement | null = null;
    for (const version of this.all) {
      const on = t.day(new Date(version.ended_at));
      if (!rows || on !== day) {
        rows = h("ol", {});
        days.push(h("section", { class: "day" }, h("h3", {}, on), rows));
      }
      day = on;
      rows.append(this.row(version));
    }
    if (days.length === 0) days.push(h("p", { class: "note" }, this.named ? t.nothingNamed : t.nothingYet));
    this.list.replaceChildren(...days);
    if (focused !== undefined) this.list.querySelector<HTMLElement>(`.version[data-from="${focused}"]`)?.focus();
  }

  private row(version: Version): HTMLElement {
    const { label, stats, origin, excerpt } = version;
    const when = t.span(new Date(version.started_at), new Date(version.ended_at));
    const head = h(
      "span",
      { class: "version-head" },
      h("time", { datetime: version.started_at }, when),
      origin === "edit" ? null : h("span", { class: "origin" }, t.origins[origin]),
      h("span", { class: "stats", "aria-hidden": "true" }, h("b", {}, t.plus(stats.inserted)), " ", h("i", {}, t.minus(stats.deleted))),
      h("span", { class: "hidden" }, t.statsSaid(stats.inserted, stats.deleted)),
    );
    const row = h(
      "button",
      { class: "version", type: "button", "data-from": version.seq_from, "data-to": version.seq_to, onclick: () => this.listener.chosen(version) },
      label && h("strong", { dir: "auto" }, label.name),
      head,
      excerpt && h("q", { class: "excerpt", dir: "auto" }, excerpt.replace(/\s+/g, " ").trim()),
      h("span", { class: "authors" }, ...version.actors.map((share) => this.authors.chip(share))),
    );
    const base = h("input", {
      type: "radio",
      name: "base",
      "aria-label": t.compareWith(label?.name ?? `${t.day(new Date(version.ended_at))}, ${when}`),
      title: t.compareWithShort,
      onchange: () => this.listener.based(version),
    });
    const item = h("li", {}, base, row);
    this.markRow(row);
    return item;
  }

  private markRow(row: HTMLElement): void {
    const holds = (seq: number): boolean => Number(row.dataset.from) <= seq && seq <= Number(row.dataset.to);
    if (holds(this.at)) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
    const base = row.parentElement?.querySelector("input");
    if (base) base.checked = holds(this.base);
  }

  private rows(): HTMLElement[] {
    return [...this.list.querySelectorAll<HTMLElement>(".version")];
  }

  private rowOf(element: Element | null): HTMLElement | null {
    return element?.closest<HTMLElement>(".version") ?? null;
  }

  private onKey(event: KeyboardEvent): void {
    const way = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const row = this.rowOf(event.target as Element);
    if (way === undefined || !row || event.altKey) return;
    event.preventDefault();
    const rows = this.rows();
    const other = rows[rows.indexOf(row) + way];
    other?.focus();
    other?.scrollIntoView({ block: "nearest" });
    other?.click();
  }
}
