/**
 * One document on this device: its Y.Doc, the copy in IndexedDB, the line to the server, what the server
 * lets us do with it, and the one status that follows from them.
 */

import { Awareness } from "y-protocols/awareness";
import * as Y from "yjs";
import { api, mayWrite, Refused, type Listed, type Role } from "./api";
import { Connection, type Stopped } from "./connection";
import { askToKeep, LocalCopy, tabsOf, type Edit, type Shared } from "./local";
import { didIn, joined, type Did, type Meeting } from "./meeting";
import { hasLeft, introduced, watchIntroduced } from "./person";

export type Status =
  | { kind: "connecting" }
  /** Every edit made on this device is on the server's disk, and the line is up. */
  | { kind: "saved" }
  /** Edits are on their way to the server or to this device. */
  | { kind: "saving" }
  /** The line is up, and we may read. `edits` were made when we might write, and never reached the server. */
  | { kind: "reading"; edits: number }
  /** No line; `edits` are kept on this device and nowhere else. */
  | { kind: "offline"; edits: number }
  /** No line, and `edits` exist only in this tab's memory. */
  | { kind: "unstored"; edits: number }
  /** The server does not know any more who we are; `edits` wait on this device until it does. */
  | { kind: "signedOut"; edits: number }
  /** The server wants no edits of ours; `edits` never reached it. */
  | { kind: "stopped"; why: Stopped; edits: number };

interface Known extends Edit {
  stored: boolean;
}

/** Close codes that the page has an answer to. */
export const SIGNED_OUT = 4401;
export const NOT_SHARED = 4403;
export const DELETED = 4404;

const REOPEN_MS = 5_000;
const LOOK_AGAIN_MS = 3_000;
// A browser that cannot open its database says so, or says nothing: do not wait for it to connect.
const LOCAL_PATIENCE_MS = 3_000;
// A write to this device that takes longer than this is not "on its way" any more.
const STORE_PATIENCE_MS = 2_000;
const SAVED_MS = 100;

export class Replica {
  readonly doc = new Y.Doc();
  readonly text = this.doc.getText("content");
  readonly awareness = new Awareness(this.doc);
  /** Settles when the copy on this device is in the doc, or there is none. */
  readonly opened: Promise<void>;
  title = "";
  /** What we may do, as the server said last; null while nobody knows. */
  role: Role | null = null;
  /** Whether the server lets us read its history; null while nobody knows. */
  private history: boolean | null = null;
  /** The server has shown us this document since the page was opened. */
  seen = false;
  /** The server itself has said `title` and `role`. */
  private told = false;
  /** It has said that we may do nothing with what it knows by this name, which may be nothing. */
  private unknown = false;
  /** Begun on this device, and not known to the server yet. */
  private fresh = false;
  private looks = 0;
  /** Our first edit has made the document, and the server is asked what it is. */
  private making = false;
  private wasLive = false;
  private readonly tab = crypto.randomUUID?.() ?? String(Math.random());
  private readonly tabs: BroadcastChannel;
  private readonly connection: Connection;
  private readonly watchers = new Set<() => void>();
  /** Edits not acknowledged, oldest first; the first is number `acknowledged` + 1. */
  private edits: Known[] = [];
  private acknowledged = 0;
  private made = 0;
  /** The edits of each tab that were ever learned, which follow one on the other. */
  private readonly learned = new Map<string, { first: number; last: number }>();
  private local: LocalCopy | null = null;
  private localDown = false;
  /** The doc holds something that was never offered to the copy on this device. */
  private unkept = false;
  private telling = false;
  /** Of the document that this is a copy of, as far as the server has said. */
  private epoch: number | null = null;
  /** What the transaction under way does, for the listener of updates. */
  private doing: Did | null = null;
  /** From the first line that is opened until one is up: what comes, and what of ours goes; `first` when we had no
   * copy, and everything is news. */
  private meeting: { theirs: Did[]; mine: Did[]; first: boolean } | null = null;
  private readonly meetings = new Set<(meeting: Meeting) => void>();
  /** When the line was up last, or this device had the document open. */
  private leftAt = 0;
  /** Why the server wants no more of us, until `connect`. */
  why: Stopped | null = null;

  constructor(readonly name: string) {
    this.tabs = tabsOf(name);
    this.tabs.onmessage = ({ data }: MessageEvent<Shared>) => {
      if (data === "let go") return location.reload();
      if (data === "removed") return this.lose();
      this.learn(data.edits, true);
      Y.applyUpdate(this.doc, data.update, this.tabs);
      this.connection.expect(this.newest);
    };
    this.connection = new Connection(name, this.doc, this.awareness, {
      dialled: () => this.beginMeeting(),
      isAnother: (seen) => this.isAnother(seen),
      changed: () => this.onLine(),
      acknowledged: (mark) => this.acknowledge(mark),
      denied: () => void this.look(),
      sentAway: () => void this.comeBack(),
      stopped: (why) => void this.onStopped(why),
    });
    this.text.observe((_event, transaction) => {
      this.doing = didIn(transaction, this.text);
      if (transaction.origin === this.connection.provider) this.meeting?.theirs.push(this.doing);
    });
    // After the provider's own listener, so that what is asked for here has been sent.
    this.doc.on("update", (update: Uint8Array, origin: unknown, _doc: Y.Doc, transaction: Y.Transaction) => {
      const did = this.doing;
      this.doing = null;
      if (origin === this.local || origin === this.tabs) return;
      if (!transaction.local) void this.store(update, []);
      else {
        const edits = this.learn([{ tab: this.tab, n: ++this.made, did }], false);
        void this.store(update, edits);
        this.connection.expect(this.newest);
        this.changed();
      }
    });
    addEventListener("beforeunload", (event) => {
      if (this.unstored > 0) event.preventDefault();
    });
    const patience = new Promise<void>((resolve) =>
      setTimeout(() => {
        if (!this.local) this.setLocalDown(true);
        resolve();
      }, LOCAL_PATIENCE_MS),
    );
    this.opened = Promise.race([this.openLocal(), patience]);
    void Promise.all([this.opened, introduced()]).then(() => this.connect());
    void this.look();
    // Left for now, or for good: until here we have seen what others did.
    document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && this.live && this.remember());
    // The server writes into its log the name that it knew when the line was opened.
    watchIntroduced(() => (this.role === null || mayWrite(this.role)) && this.connection.dialled && this.connection.redial());
  }

  get status(): Status {
    const edits = this.edits.length;
    const reads = this.role !== null && !mayWrite(this.role);
    if (this.why && this.why.code !== SIGNED_OUT) return { kind: "stopped", why: this.why, edits };
    if (this.live) {
      if (reads) return { kind: "reading", edits };
      if (this.connection.denied) return { kind: "stopped", why: { code: 0, reason: this.connection.denied }, edits };
      return edits === 0 ? { kind: "saved" } : { kind: "saving" };
    }
    if (!this.why && !this.connection.tried) return { kind: edits === 0 || reads ? "connecting" : "saving" };
    if (this.unstored > 0) return this.localDown ? { kind: "unstored", edits: this.unstored } : { kind: "saving" };
    return { kind: this.why ? "signedOut" : "offline", edits };
  }

  /** The server is there, and what it had is in the doc. */
  get live(): boolean {
    return this.connection.live;
  }

  /** Calls back whenever the status may have changed. */
  watch(watcher: () => void): void {
    this.watchers.add(watcher);
  }

  /** We may change the text, as far as anybody knows. */
  get writable(): boolean {
    return this.role !== null && mayWrite(this.role) && this.status.kind !== "stopped";
  }

  /** Calls back when the copy has met the server again, and others, or we, had done something apart. */
  watchMeetings(watcher: (meeting: Meeting) => void): void {
    this.meetings.add(watcher);
  }

  /** We may read its history, as far as anybody knows. */
  get historian(): boolean {
    return this.role !== null && (this.history ?? mayWrite(this.role));
  }

  /** Asks the server what this document is called, and what we may do with it. */
  async look(): Promise<void> {
    const mine = ++this.looks;
    const { line } = this.connection;
    try {
      const known = await api.get(this.name);
      if (mine !== this.looks) return;
      this.learnOf(known, line);
    } catch (error) {
      if (mine !== this.looks) return;
      if (!(error instanceof Refused) || error.passing) {
        if (this.live) setTimeout(() => mine === this.looks && void this.look(), LOOK_AGAIN_MS);
        return;
      }
      // Deleted, as the line says too; or the line is older than the reason, and about to be closed.
      if (error.status === 410 || (this.live && this.told)) return;
      this.unknown = true;
      // What we are let into although nobody has made it belongs to whoever writes in it first.
      this.role = this.live ? "owner" : null;
      if (this.live) this.remember();
      this.changed();
    }
  }

  /** Makes a document of what was only an address so far, under `title`. */
  async make(title = this.title): Promise<void> {
    const { name } = this;
    const { line } = this.connection;
    try {
      this.learnOf(await api.create({ name, ...(title && { title }) }), line);
    } catch (error) {
      if (!(error instanceof Refused && error.code === "document-exists")) throw error;
      // The first letters have made it in the meantime.
      this.learnOf(await (title === this.title ? api.get(name) : api.rename(name, title)), line);
    }
  }

  /** Whether all edits made here are on the server, within `ms`; not when the line is cut, or they are refused. */
  async saved(ms: number): Promise<boolean> {
    const until = Date.now() + ms;
    for (;;) {
      const { status } = this;
      if (status.kind === "saved" || (status.kind === "reading" && status.edits === 0)) return true;
      if ((status.kind !== "saving" && status.kind !== "connecting") || Date.now() > until) return false;
      await new Promise((resolve) => setTimeout(resolve, SAVED_MS));
    }
  }

  /** What the server said about the document just now; asked while `line` was up, if that is known. */
  learnOf({ title, role, history, epoch }: Listed, line: number | null = null): void {
    // Of what we have a copy, that is what the line brought; before it is up, the answer is about something else.
    if (line !== null && line === this.connection.line) this.isCopyOf(epoch);
    this.told = true;
    this.unknown = false;
    [this.title, this.role, this.history] = [title, role, history];
    this.remember();
    this.changed();
  }

  /** Takes no more edits, and says why. */
  stop(why: Stopped): void {
    this.why = why;
    if (why.code === NOT_SHARED) {
      this.unknown = true;
      this.role = null;
      this.remember();
    }
    this.changed();
  }

  /** Dials again after the server had said stop. */
  connect(): void {
    this.why = null;
    this.connection.connect();
    this.changed();
  }

  private isCopyOf(epoch: number): void {
    this.epoch = epoch;
    this.connection.copyOf(epoch);
  }

  /** The server once had letters of ours that it lacks, and has others: it lost everything, and began anew. */
  private isAnother(seen: Map<number, number>): boolean {
    if (seen.size === 0) return false; // it lost everything, and is given it back
    const had = Y.decodeStateVector(Y.encodeStateVector(this.doc));
    for (const { did } of this.edits) {
      if (!did) return false;
      for (const { client, clock } of did.came) had.set(client, Math.min(had.get(client) ?? 0, clock));
    }
    const clients = [...had].filter(([, clock]) => clock > 0).map(([client]) => client);
    return clients.length > 0 && !clients.some((client) => seen.has(client));
  }

  private beginMeeting(): void {
    this.meeting ??= { theirs: [], mine: [], first: !this.seen && this.text._start === null };
  }

  private endMeeting(): void {
    const { meeting } = this;
    this.meeting = null;
    if (!meeting || meeting.first) return;
    // Those that the server has not acknowledged yet are on their way over this line.
    const writes = this.role !== null && mayWrite(this.role) && !this.connection.denied;
    const mine = writes ? [...meeting.mine, ...this.edits.flatMap(({ did }) => did ?? [])] : meeting.mine;
    const found = { theirs: joined(meeting.theirs), mine: joined(mine), since: this.leftAt };
    for (const watcher of this.meetings) watcher(found);
  }

  /** Forgets what the server will not take, and all the rest of it on this device; the page is to be left now. */
  async letGo(): Promise<void> {
    const { local } = this;
    this.local = null;
    this.edits = [];
    await local?.remove();
    this.tabs.postMessage("let go" satisfies Shared);
  }

  private onLine(): void {
    const { live } = this;
    if (live && !this.wasLive) {
      this.endMeeting();
      this.seen = true;
      void this.look(); // it may have changed while we were away
    }
    if (!live && this.wasLive) this.leftAt = Date.now();
    this.wasLive = live;
    // While the server is away, nobody has said no.
    if (!live && this.connection.tried && !this.unknown && !this.why) this.role ??= "owner";
    this.changed();
  }

  /** Learns what we are now, and dials again; but not as a guest after who was signed in. */
  private async comeBack(): Promise<void> {
    if (await hasLeft()) return this.stop({ code: SIGNED_OUT, reason: "" });
    await this.look();
    this.connection.comeBack();
  }

  private async onStopped(why: Stopped): Promise<void> {
    if (why.code === NOT_SHARED && this.fresh && (await this.makeFresh())) return this.connect();
    const left = why.code === NOT_SHARED && (await hasLeft());
    this.stop(left ? { ...why, code: SIGNED_OUT } : why);
  }

  /** Makes on the server what was begun here; false if we may not, or it is away. */
  private async makeFresh(): Promise<boolean> {
    this.fresh = false; // once
    try {
      await this.make();
      return true;
    } catch (error) {
      console.info("not made:", error);
      return false;
    }
  }

  private remember(): void {
    this.local?.remember(this.title, this.role, this.epoch).catch(() => this.lose());
  }

  private get newest(): number {
    return this.acknowledged + this.edits.length;
  }

  private get unstored(): number {
    return this.edits.reduce((n, edit) => n + (edit.stored ? 0 : 1), 0);
  }

  /** Takes edits into account that are in the doc from now on, each once. Those that another tab tells of while
   * the copy is being read come before the older ones that are read there. */
  private learn(edits: readonly Edit[], stored: boolean): Known[] {
    const fresh = edits
      .filter(({ tab, n }) => {
        const known = this.learned.get(tab);
        return !known || n < known.first || n > known.last;
      })
      .map((edit) => ({ ...edit, stored }));
    for (const { tab, n } of fresh) {
      const { first, last } = this.learned.get(tab) ?? { first: n, last: n };
      this.learned.set(tab, { first: Math.min(first, n), last: Math.max(last, n) });
    }
    this.edits.push(...fresh);
    return fresh;
  }

  private acknowledge(mark: number): void {
    const done = this.edits.splice(0, mark - this.acknowledged);
    this.acknowledged += done.length;
    this.meeting?.mine.push(...done.flatMap(({ did }) => did ?? []));
    // Made by us, whoever this name belonged to before.
    if (done.length > 0 && this.live && this.unknown && !this.making) {
      this.making = true;
      void this.look().finally(() => (this.making = false));
    }
    if (done.length > 0) this.local?.acknowledge(done).catch(() => this.lose());
  }

  private async store(update: Uint8Array, edits: Known[]): Promise<void> {
    const { local } = this;
    if (!local) {
      this.unkept = true; // openLocal makes up for it
      return;
    }
    const slow = edits.length > 0 ? setTimeout(() => this.setLocalDown(true), STORE_PATIENCE_MS) : undefined;
    try {
      await local.write(update, edits);
      if (local !== this.local) return; // lost with the database meanwhile: `openLocal` makes up for it
      this.stored(edits);
      // From now on this device has something that nobody else has.
      if (edits.length > 0 && !this.live && this.connection.tried) askToKeep();
      this.tellTabs(update, edits);
    } catch {
      if (local === this.local) this.lose();
    } finally {
      clearTimeout(slow);
    }
  }

  /** In the order in which it was kept. */
  private tellTabs(update: Uint8Array, edits: readonly Known[]): void {
    if (edits.length > 0)
      this.tabs.postMessage({ update, edits: edits.map(({ tab, n, did }) => ({ tab, n, did })) } satisfies Shared);
  }

  private stored(edits: Known[]): void {
    for (const edit of edits) edit.stored = true;
    this.setLocalDown(false);
  }

  private setLocalDown(down: boolean): void {
    this.localDown = down;
    this.changed();
  }

  /** The database is gone or takes nothing: nothing counts as stored until another one has it all. */
  private lose(): void {
    if (!this.local) return;
    this.local.close();
    this.local = null;
    this.unkept = true;
    for (const edit of this.edits) edit.stored = false;
    this.setLocalDown(true);
    setTimeout(() => void this.openLocal(), REOPEN_MS);
  }

  /** Reads what this device has into the doc, and writes there what only the doc has. */
  private async openLocal(): Promise<void> {
    let local: LocalCopy | null = null;
    try {
      local = await LocalCopy.open(this.name, () => local === this.local && this.lose());
      const [{ update, edits }, remembered] = await Promise.all([local.load(), local.remembered()]);
      this.local = local;
      this.leftAt ||= remembered?.opened ?? 0;
      // What the server said before we dialled may be about another document than the copy.
      if (this.epoch === null && remembered?.epoch != null) this.isCopyOf(remembered.epoch);
      if (this.told) this.remember();
      else if (remembered) {
        this.fresh = remembered.fresh === true;
        this.title ||= remembered.title;
        if (remembered.role === null) this.unknown = true;
        if (!this.unknown) this.role ??= remembered.role ?? null;
      }
      this.learn(edits, true);
      const there = new Set(edits.map((edit) => `${edit.tab} ${edit.n}`));
      for (const edit of this.edits) edit.stored ||= there.has(`${edit.tab} ${edit.n}`);
      if (update) Y.applyUpdate(this.doc, update, local);
      this.connection.expect(this.newest);
      if (this.unkept) {
        const lacking = this.edits.filter((edit) => !edit.stored);
        this.unkept = false;
        const update = Y.encodeStateAsUpdate(this.doc);
        await local.write(update, lacking);
        if (local !== this.local) return;
        this.stored(lacking);
        this.tellTabs(update, lacking);
      } else this.setLocalDown(false);
    } catch {
      this.local = local; // so that there is one way to lose it
      if (local) this.lose();
      else {
        this.setLocalDown(true);
        setTimeout(() => void this.openLocal(), REOPEN_MS);
      }
    }
  }

  /** Tells the watchers once the present task is done: a doc's listeners must not be entered again. */
  private changed(): void {
    if (this.telling) return;
    this.telling = true;
    queueMicrotask(() => {
      this.telling = false;
      for (const watcher of this.watchers) watcher();
    });
  }
}
