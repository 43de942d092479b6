/**
 * The history of a document, over its text: versions, what changed and by whom, names, and the way back. The
 * document stays connected underneath, and is there again as it was when this is closed.
 */

import { Refused } from "./api";
import { Authors } from "./authors";
import { Comparison } from "./comparison";
import { announce, h, icon, toast } from "./element";
import "./history.css";
import { personOf } from "./person";
import { Record, type Activity, type DiffPage, type Moment, type Version } from "./record";
import type { Replica } from "./replica";
import { t } from "./strings";
import { Timeline } from "./timeline";
import { Versions } from "./versions";

const MODES = ["text", "changes", "now", "two"] as const;
type Mode = (typeof MODES)[number];

// What others write goes into the list when they pause, or after this long.
const REFRESH_MS = 2_000;
// A history of a few sittings in many days makes a few bars; then it is asked for again in finer ones.
const BARS_WANTED = 60;
const BARS_LIMIT = 400;
const FINER = 4;
const FINER_TIMES = 5;
const FINEST_S = 1;
const PHONE = "(max-width: 40rem)";

const CLOSE = "M5 5l10 10M15 5L5 15";
const UP = "M5 12l5-5 5 5";
const DOWN = "M5 8l5 5 5-5";
const LIST = "M4 6h12M4 10h12M4 14h12";

const saying = (error: unknown): string => (error instanceof Refused ? t.failed(error.message) : t.unreachable);

export interface Opened {
  close(): void;
}

/**
 * Opens it over these parts of the page, below the bar, at the version with entry `seq` or the newest, and calls
 * `closed` when it is closed, by whatever way.
 */
export function open(replica: Replica, bar: HTMLElement, under: HTMLElement[], seq: number | null, closed: () => void): Opened {
  return new Panel(replica, bar, under, seq, closed);
}

class Panel implements Opened {
  private readonly record: Record;
  private readonly authors: Authors;
  private readonly versions: Versions;
  private readonly timeline: Timeline;
  private readonly comparison: Comparison;
  private readonly element: HTMLElement;
  private readonly reading: HTMLElement;
  private readonly list: HTMLElement;
  private readonly heading = h("h2", {});
  private readonly about = h("p", { class: "about" });
  private readonly naming = h("div", { class: "naming" });
  private readonly text = h("div", { class: "past-text" });
  private readonly wrong = h("div", { class: "note wrong-note", role: "alert", hidden: true });
  private readonly place = h("span", { class: "place" });
  private readonly steps: HTMLButtonElement[];
  private readonly restoreButton: HTMLButtonElement;
  private readonly phone = matchMedia(PHONE);
  private readonly ending = new AbortController();
  private mode: Mode = "changes";
  /** The entry up to which the text is shown, 0 as long as there is none, and the version that it is in. */
  private at = 0;
  private version: Version | null = null;
  /** What "any two" compares with; 0 until there is a list. */
  private base = 0;
  private page: DiffPage | null = null;
  private paging: Promise<void> | null = null;
  /** Seconds that a bar stands for, as chosen last. */
  private bucket: number | undefined;
  private drawing = false;
  private stale = false;
  private refreshing = 0;

  constructor(
    private readonly replica: Replica,
    private readonly bar: HTMLElement,
    private readonly under: HTMLElement[],
    private readonly wanted: number | null,
    private readonly closed: () => void,
  ) {
    this.record = new Record(replica);
    this.authors = new Authors(() =>
      [...replica.awareness.getStates()].filter(([client]) => client !== replica.awareness.clientID).map(([client, { user }]) => personOf(user, client)),
    );
    this.versions = new Versions(this.record, this.authors, {
      chosen: (version) => this.choose(version),
      based: (version) => this.compareWith(version),
      loaded: () => this.at === 0 && void this.begin(),
    });
    this.timeline = new Timeline(this.authors, (seq) => this.goTo(seq));
    this.comparison = new Comparison(this.text, this.authors);
    this.steps = [
      h("button", { class: "tool", "aria-label": t.previousChange, title: t.previousChange, "aria-keyshortcuts": "Alt+ArrowUp", onclick: () => void this.step(-1) }, icon(UP)),
      h("button", { class: "tool", "aria-label": t.nextChange, title: t.nextChange, "aria-keyshortcuts": "Alt+ArrowDown", onclick: () => void this.step(1) }, icon(DOWN)),
    ];
    this.restoreButton = h("button", { class: "secondary", hidden: !replica.writable, onclick: () => void this.restore() }, t.restoreButton, h("span", {}, t.restoreWhat));
    this.reading = this.readingPart();
    this.list = this.listPart();
    this.element = h("section", { class: "past", "aria-label": t.history, "data-empty": true }, this.reading, this.list);
    for (const part of under) part.inert = true;
    document.body.classList.add("looking-back");
    document.body.append(this.element);
    this.sheet(true);
    this.listen();
    this.list.querySelector<HTMLElement>("button")?.focus();
    void this.versions.load();
    void this.loadActivity();
  }

  close(): void {
    if (this.ending.signal.aborted) return;
    this.ending.abort();
    clearTimeout(this.refreshing);
    this.comparison.destroy();
    this.element.remove();
    for (const part of [this.bar, ...this.under]) part.inert = false;
    document.body.classList.remove("looking-back");
    this.closed();
  }

  private get gone(): boolean {
    return this.ending.signal.aborted;
  }

  private readingPart(): HTMLElement {
    const lists = h("button", { class: "tool to-list", "aria-label": t.versionsList, title: t.versionsList, onclick: () => this.sheet(true) }, icon(LIST));
    const modes = MODES.map((mode) => {
      const radio = h("input", { type: "radio", name: "mode", value: mode, checked: mode === this.mode, onchange: () => this.setMode(mode) });
      return h("label", { title: t.modesSaid[mode] }, radio, h("span", {}, t.modes[mode]));
    });
    return h(
      "div",
      { class: "reading" },
      h(
        "header",
        { class: "past-head" },
        lists,
        h("div", { class: "what" }, this.heading, this.about),
        this.closeButton(),
        this.naming,
        this.restoreButton,
        h("fieldset", { class: "dial" }, h("legend", { class: "hidden" }, t.showWhat), ...modes),
      ),
      this.wrong,
      this.text,
      h("footer", { class: "past-foot" }, h("div", { class: "stepper" }, ...this.steps, this.place), this.timeline.element),
    );
  }

  private closeButton(): HTMLElement {
    return h("button", { class: "tool close", "aria-label": t.closeHistory, title: t.closeHistory, onclick: () => this.close() }, icon(CLOSE));
  }

  private listPart(): HTMLElement {
    const named = h("input", { type: "checkbox", onchange: () => void this.versions.only(named.checked).then(() => this.marks()) });
    return h(
      "aside",
      { class: "sittings", "aria-label": t.versionsList },
      h(
        "header",
        {},
        h("h2", {}, t.history),
        h("label", { class: "only" }, named, t.onlyNamed),
        this.closeButton(),
      ),
      this.versions.element,
    );
  }

  private listen(): void {
    const { signal } = this.ending;
    document.addEventListener(
      "keydown",
      (event) => {
        // A dialog, a sheet or a field closes itself first.
        const elsewhere = document.querySelector("dialog[open], :popover-open") ?? this.fieldIn(event.target);
        if (event.key === "Escape" && !elsewhere && !event.defaultPrevented) {
          event.preventDefault();
          this.close();
        } else if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp") && !elsewhere) {
          event.preventDefault();
          void this.step(event.key === "ArrowDown" ? 1 : -1);
        }
      },
      { signal },
    );
    this.phone.addEventListener("change", () => this.sheet(this.element.dataset.sheet === "open"), { signal });
    this.text.addEventListener("scroll", () => this.nearEnd() && void this.nextPage(), { signal });
    const news = (): void => {
      if (this.refreshing === 0) this.refreshing = window.setTimeout(() => void this.refresh(), REFRESH_MS);
    };
    this.replica.text.observe(news);
    signal.addEventListener("abort", () => this.replica.text.unobserve(news));
    // Where the bar ends: it may take two lines.
    const room = new ResizeObserver(() => this.element.style.setProperty("--bar", `${this.bar.offsetHeight}px`));
    room.observe(this.bar);
    signal.addEventListener("abort", () => room.disconnect());
  }

  private fieldIn(target: EventTarget | null): Element | null {
    return target instanceof HTMLInputElement && !["radio", "checkbox", "range"].includes(target.type) ? target : null;
  }

  /** On a phone the list lies over the text, and both over the bar; elsewhere all stand beside each other. */
  private sheet(open: boolean): void {
    this.bar.inert = this.phone.matches;
    this.element.dataset.sheet = open ? "open" : "closed";
    this.reading.inert = this.phone.matches && open;
    this.list.inert = this.phone.matches && !open;
  }

  /** With the version that is wanted, or the newest, once there is one. */
  private async begin(): Promise<void> {
    let [first] = this.versions.all;
    if (!first || this.gone) return;
    this.at = first.seq_to;
    const waiting = this.list.contains(document.activeElement);
    if (this.wanted !== null) {
      const { wanted } = this;
      const asked = this.versions.containing(wanted) ?? this.record.version(wanted).catch(() => first);
      first = (await asked) as Version;
      if (this.gone) return;
      this.putListAway();
    }
    delete this.element.dataset.empty;
    [this.at, this.version] = [first.seq_to, first];
    void this.draw();
    if (waiting) this.versions.focus();
  }

  private async loadActivity(): Promise<void> {
    try {
      let activity: Activity = await this.record.activity(this.bucket);
      if (activity.buckets.length > BARS_LIMIT) activity = await this.record.activity();
      for (let times = 0; times < FINER_TIMES && activity.buckets.length < BARS_WANTED && activity.bucket > FINEST_S; times++) {
        activity = await this.record.activity(Math.max(FINEST_S, activity.bucket / FINER));
      }
      this.bucket = activity.bucket;
      if (!this.gone) this.timeline.show(activity);
    } catch (error) {
      // The list, which is asked at the same time, says what is wrong; without bars one can still choose.
      if (!(error instanceof Refused && error.status === 404)) console.info("no activity:", error);
    }
  }

  private async refresh(): Promise<void> {
    this.refreshing = 0; // what comes while the answers are on their way is asked for again
    await Promise.all([this.versions.refresh(false), this.loadActivity()]);
    if (this.gone || this.at === 0) return;
    this.version = this.versions.containing(this.at) ?? this.version;
    this.marks();
  }

  private choose(version: Version): void {
    if (version.seq_to !== this.at) this.naming.replaceChildren(); // a name begun is that of another version
    [this.at, this.version] = [version.seq_to, version];
    this.putListAway();
    void this.draw();
  }

  private compareWith(version: Version): void {
    this.base = version.seq_to;
    this.putListAway();
    void this.draw();
  }

  private putListAway(): void {
    if (!this.phone.matches) return;
    this.sheet(false);
    this.reading.querySelector<HTMLElement>(".to-list")?.focus();
  }

  private goTo(seq: number): void {
    this.at = seq;
    this.version = this.versions.containing(seq) ?? null;
    void this.draw();
  }

  private setMode(mode: Mode): void {
    this.mode = mode;
    this.element.dataset.mode = mode;
    if (mode === "two" && this.phone.matches) this.sheet(true);
    void this.draw();
  }

  /** Shows what is chosen by now, one answer after the other: who drags on wants none of those between. */
  private async draw(): Promise<void> {
    this.stale = true;
    this.marks();
    if (this.drawing) return;
    this.drawing = true;
    this.text.setAttribute("aria-busy", "true");
    try {
      while (this.stale && !this.gone) {
        this.stale = false;
        await this.drawOnce();
        this.wrong.hidden = true;
      }
    } catch (error) {
      if (!this.gone) this.complain(error);
    } finally {
      this.drawing = false;
      this.text.removeAttribute("aria-busy");
    }
  }

  private async drawOnce(): Promise<void> {
    const { at, mode } = this;
    if (this.version === null) {
      const version = await this.record.version(at);
      if (at !== this.at || this.gone) return;
      this.version = version;
    }
    const version = this.version;
    if (this.base === 0) this.base = Math.max(1, version.seq_from - 1);
    this.marks();
    if (mode === "text") {
      const text = await this.record.text(at);
      if (this.gone) return;
      this.page = null;
      this.comparison.show([{ op: "keep", text }]);
    } else {
      const [from, to] = this.ends(version);
      const page = await this.record.diff(from, to);
      if (this.gone) return;
      this.page = page;
      page.actors.forEach((actor) => this.authors.person(actor));
      this.comparison.show(page.parts);
    }
    this.count();
  }

  /** From where to where is compared. */
  private ends(version: Version): [Moment, Moment] {
    if (this.mode === "now") return [this.at, "head"];
    if (this.mode === "two") return [Math.min(this.base, this.at), Math.max(this.base, this.at)];
    return [version.seq_from - 1, this.at];
  }

  private complain(error: unknown): void {
    this.wrong.hidden = false;
    this.wrong.replaceChildren(saying(error), " ", h("button", { class: "quiet", onclick: () => void this.draw() }, t.tryAgain));
  }

  private marks(): void {
    this.versions.mark(this.at, this.mode === "two" ? this.base : 0);
    this.timeline.set(this.at);
    this.title();
  }

  /** What the version on show is called. */
  private what(): string {
    const { version } = this;
    if (!version) return this.timeline.when(this.at) ? t.moment(this.timeline.when(this.at) as Date) : "";
    const whole = this.at === version.seq_to;
    if (whole && version.label) return version.label.name;
    const [from, to] = [new Date(version.started_at), new Date(version.ended_at)];
    if (whole) return t.dayAndSpan(from, to);
    const when = this.timeline.when(this.at)?.getTime() ?? to.getTime();
    return t.moment(new Date(Math.min(Math.max(when, from.getTime()), to.getTime())));
  }

  private title(): void {
    const { version } = this;
    this.heading.textContent = this.what();
    const whole = version !== null && this.at === version.seq_to;
    const days = whole && version.label ? t.dayAndSpan(new Date(version.started_at), new Date(version.ended_at)) : null;
    const base = this.mode === "two" ? this.versions.containing(this.base) : undefined;
    const other = base && t.comparedWith(base.label?.name ?? t.dayAndSpan(new Date(base.started_at), new Date(base.ended_at)));
    this.about.replaceChildren(
      ...(days ? [h("span", {}, days)] : []),
      ...(other ? [h("span", {}, other)] : (version?.actors ?? []).map((share) => this.authors.chip(share))),
    );
    if (!this.naming.querySelector("form")) this.offerNames();
  }

  /** The ways to name the version on show, or to name it otherwise. */
  private offerNames(): void {
    const { version, at } = this;
    const label = version && at === version.seq_to ? version.label : null;
    const focused = this.naming.contains(document.activeElement);
    const edit = h("button", { class: "quiet", onclick: () => this.askName(at, label?.name ?? "", label?.id) }, label ? t.renameVersion : t.nameVersion);
    const remove = label && h("button", { class: "quiet", onclick: () => void this.unname(label.id, label.name, label.note, at) }, t.unnameVersion);
    this.naming.replaceChildren(...(at > 0 && this.replica.writable ? [edit, ...(remove ? [remove] : [])] : []));
    if (focused) edit.focus();
  }

  private askName(seq: number, known: string, id?: string): void {
    const field = h("input", { "aria-label": t.versionName, placeholder: t.versionName, maxlength: 200, autocomplete: "off", required: true, value: known });
    const done = (): void => {
      form.remove();
      this.offerNames();
      this.naming.querySelector<HTMLElement>("button")?.focus();
    };
    const save = async (): Promise<void> => {
      const name = field.value.trim();
      if (!name) return field.focus();
      if (name === known) return done();
      try {
        await (id === undefined ? this.record.name(seq, name) : this.record.rename(id, name));
        await this.reload();
        done();
      } catch (error) {
        toast(saying(error));
        field.focus();
      }
    };
    const form = h(
      "form",
      { onsubmit: (event: Event) => (event.preventDefault(), void save()), onkeydown: (event: KeyboardEvent) => event.key === "Escape" && (event.preventDefault(), done()) },
      field,
      h("button", { class: "quiet" }, t.save),
      h("button", { class: "quiet", type: "button", onclick: done }, t.cancel),
    );
    this.naming.replaceChildren(form);
    field.select();
  }

  private async unname(id: string, name: string, note: string, seq: number): Promise<void> {
    const again = async (): Promise<void> => {
      await this.record.name(seq, name, note);
      await this.reload();
    };
    try {
      await this.record.unname(id);
      await this.reload();
      toast(t.unnamed(name), { label: t.undo, run: () => void again().catch((error: unknown) => toast(saying(error))) });
    } catch (error) {
      toast(saying(error));
    }
  }

  /** A name cuts a version in two, and its end makes one of them again. */
  private async reload(): Promise<void> {
    if (this.gone) return;
    const before = this.version?.seq_from;
    await this.versions.refresh(true);
    this.version = this.versions.containing(this.at) ?? (await this.record.version(this.at));
    if (this.version.seq_from !== before) await this.draw();
    else this.marks();
  }

  private count(): void {
    const { count, place } = this.comparison;
    const none = count === 0;
    this.place.textContent = this.mode === "text" ? "" : none ? t.noChanges : t.changePlace(place, count, this.page?.next != null);
    for (const button of this.steps) button.disabled = none;
  }

  private async step(by: 1 | -1): Promise<void> {
    if (by > 0 && this.comparison.place === this.comparison.count) await this.nextPage();
    announce(this.comparison.step(by));
    this.count();
  }

  private nearEnd(): boolean {
    const { scrollTop, clientHeight, scrollHeight } = this.text;
    return scrollTop + 3 * clientHeight > scrollHeight;
  }

  /** What was too long for one answer comes as one gets there. */
  private nextPage(): Promise<void> {
    const { page, version } = this;
    if (!page?.next || !version) return Promise.resolve();
    this.paging ??= this.record
      .diff(page.seq_from, page.seq_to, page.next)
      .then((more) => {
        if (this.gone || this.page !== page) return;
        this.page = more;
        more.actors.forEach((actor) => this.authors.person(actor));
        this.comparison.append(more.parts);
        this.count();
      })
      .catch((error: unknown) => this.gone || this.complain(error))
      .finally(() => (this.paging = null)) as Promise<void>;
    return this.paging;
  }

  /** Says first what would change. Refused because somebody wrote meanwhile, it says that, and asks again. */
  private async restore(): Promise<void> {
    const [seq, what] = [this.at, this.what()];
    const body = h("div", { class: "effects" });
    let expected: number | undefined;
    const measure = async (): Promise<void> => {
      const { seq_from, stats } = await this.record.difference("head", seq);
      expected = seq_from;
      const nothing = stats.inserted + stats.deleted === 0;
      body.replaceChildren(
        h("p", { class: "counts" }, nothing ? t.restoreNothing : t.restoreCounts(stats.inserted, stats.deleted)),
        ...(nothing ? [] : [h("p", { class: "note" }, t.restoreKeeps)]),
      );
      go.hidden = nothing;
    };
    const run = async (): Promise<void> => {
      go.disabled = true;
      try {
        const { checkpoint, head } = await this.record.restore(seq, expected);
        dialog.close();
        this.close();
        if (head > checkpoint.seq) toast(t.restored(what), { label: t.undo, run: () => void this.takeBack(checkpoint.seq, head) });
        else toast(t.restoreNothing);
      } catch (error) {
        if (error instanceof Refused && error.status === 412) await moved().catch(fail);
        else fail(error);
      } finally {
        go.disabled = false;
      }
    };
    const moved = async (): Promise<void> => {
      const { actors } = await this.record.diff(expected ?? "head", "head");
      await measure();
      // Who waits for a pause of somebody who writes on would wait for ever, and nothing is lost.
      expected = undefined;
      body.prepend(h("p", { role: "alert" }, t.restoreMoved(actors.map((actor) => this.authors.person(actor).name))));
      go.replaceChildren(t.restoreStill);
    };
    const fail = (error: unknown): void => body.replaceChildren(h("p", { role: "alert" }, saying(error)));
    const go = h("button", { class: "primary", onclick: () => void run() }, t.restoreButton);
    const dialog = h(
      "dialog",
      { class: "ask", "aria-labelledby": "ask-title", onclose: () => dialog.remove() },
      h("h2", { id: "ask-title" }, t.restoreTitle(what)),
      body,
      h("div", { class: "ways" }, go, h("button", { class: "quiet", onclick: () => dialog.close() }, t.cancel)),
    );
    try {
      await measure();
    } catch (error) {
      return toast(saying(error));
    }
    if (this.gone) return;
    this.element.append(dialog);
    dialog.showModal();
  }

  /** Takes back what the restoring did, and nothing that anybody wrote after it. */
  private async takeBack(checkpoint: number, last: number): Promise<void> {
    try {
      await this.record.undo(checkpoint, last);
      toast(t.restoreUndone);
    } catch (error) {
      toast(saying(error));
    }
  }
}
