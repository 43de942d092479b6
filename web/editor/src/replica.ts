/**
 * One document on this device: its Y.Doc, the copy in IndexedDB, the line to the server, and the one
 * status that follows from them.
 */

import { Awareness } from "y-protocols/awareness";
import * as Y from "yjs";
import { Connection, type Stopped } from "./connection";
import { LocalCopy, type Edit } from "./local";

export type Status =
  | { kind: "connecting" }
  /** Every edit made on this device is on the server's disk, and the line is up. */
  | { kind: "saved" }
  /** Edits are on their way to the server or to this device. */
  | { kind: "saving" }
  /** No line; `edits` are kept on this device and nowhere else. */
  | { kind: "offline"; edits: number }
  /** No line, and `edits` exist only in this tab's memory. */
  | { kind: "unstored"; edits: number }
  /** The server wants no edits of ours; `edits` never reached it. */
  | { kind: "stopped"; why: Stopped; edits: number };

interface Known extends Edit {
  stored: boolean;
}

/** What tabs of one browser tell each other. */
interface Shared {
  update: Uint8Array;
  edit: Edit;
}

const REOPEN_MS = 5_000;
// A browser that cannot open its database says so, or says nothing: do not wait for it to connect.
const LOCAL_PATIENCE_MS = 3_000;
// A write to this device that takes longer than this is not "on its way" any more.
const STORE_PATIENCE_MS = 2_000;

export class Replica {
  readonly doc = new Y.Doc();
  readonly text = this.doc.getText("content");
  readonly awareness = new Awareness(this.doc);
  /** Settles when the copy on this device is in the doc, or there is none. */
  readonly opened: Promise<void>;
  private readonly tab = crypto.randomUUID?.() ?? String(Math.random());
  private readonly tabs: BroadcastChannel;
  private readonly connection: Connection;
  private readonly watchers = new Set<() => void>();
  /** Edits not acknowledged, oldest first; the first is number `acknowledged` + 1. */
  private edits: Known[] = [];
  private acknowledged = 0;
  private made = 0;
  private readonly latest = new Map<string, number>();
  private local: LocalCopy | null = null;
  private localDown = false;
  /** The doc holds something that was never offered to the copy on this device. */
  private unkept = false;
  private telling = false;
  private why: Stopped | null = null;

  constructor(readonly name: string) {
    this.tabs = new BroadcastChannel(`collab:${name}`);
    this.tabs.onmessage = ({ data }: MessageEvent<Shared>) => {
      this.learn([data.edit], true);
      Y.applyUpdate(this.doc, data.update, this.tabs);
      this.connection.expect(this.newest);
    };
    this.connection = new Connection(name, this.doc, this.awareness, {
      changed: () => this.changed(),
      acknowledged: (mark) => this.acknowledge(mark),
      stopped: (why) => this.stop(why),
    });
    // After the provider's own listener, so that what is asked for here has been sent.
    this.doc.on("update", (update: Uint8Array, origin: unknown, _doc: Y.Doc, transaction: Y.Transaction) => {
      if (origin === this.local || origin === this.tabs) return;
      if (!transaction.local) void this.store(update, []);
      else {
        const edits = this.learn([{ tab: this.tab, n: ++this.made }], false);
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
    void this.opened.then(() => this.connect());
  }

  get status(): Status {
    const edits = this.edits.length;
    if (this.why) return { kind: "stopped", why: this.why, edits };
    if (this.live) return edits === 0 ? { kind: "saved" } : { kind: "saving" };
    if (!this.connection.tried) return { kind: edits === 0 ? "connecting" : "saving" };
    if (this.unstored === 0) return { kind: "offline", edits };
    return this.localDown ? { kind: "unstored", edits: this.unstored } : { kind: "saving" };
  }

  /** The server is there, and what it had is in the doc. */
  get live(): boolean {
    return this.connection.live;
  }

  /** Calls back whenever the status may have changed. */
  watch(watcher: () => void): void {
    this.watchers.add(watcher);
  }

  /** The title this device remembers. */
  async title(): Promise<string> {
    return (await this.local?.title().catch(() => "")) ?? "";
  }

  remember(title: string): void {
    this.local?.remember(title).catch(() => this.lose());
  }

  /** Takes no more edits, and says why. */
  stop(why: Stopped): void {
    this.why = why;
    this.changed();
  }

  /** Dials again after the server had said stop. */
  connect(): void {
    this.why = null;
    this.connection.connect();
    this.changed();
  }

  private get newest(): number {
    return this.acknowledged + this.edits.length;
  }

  private get unstored(): number {
    return this.edits.reduce((n, edit) => n + (edit.stored ? 0 : 1), 0);
  }

  /** Takes edits into account that are in the doc from now on, each once. */
  private learn(edits: readonly Edit[], stored: boolean): Known[] {
    const fresh: Known[] = [];
    for (const { tab, n } of edits) {
      if (n <= (this.latest.get(tab) ?? 0)) continue;
      this.latest.set(tab, n);
      fresh.push({ tab, n, stored });
    }
    this.edits.push(...fresh);
    return fresh;
  }

  private acknowledge(mark: number): void {
    const done = this.edits.splice(0, mark - this.acknowledged);
    this.acknowledged += done.length;
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
      this.stored(edits);
      for (const { tab, n } of edits) this.tabs.postMessage({ update, edit: { tab, n } } satisfies Shared);
    } catch {
      if (local === this.local) this.lose();
    } finally {
      clearTimeout(slow);
    }
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
      const { update, edits } = await local.load();
      this.local = local;
      this.learn(edits, true);
      const there = new Set(edits.map((edit) => `${edit.tab} ${edit.n}`));
      for (const edit of this.edits) edit.stored ||= there.has(`${edit.tab} ${edit.n}`);
      if (update) Y.applyUpdate(this.doc, update, local);
      this.connection.expect(this.newest);
      if (this.unkept) {
        const lacking = this.edits.filter((edit) => !edit.stored);
        this.unkept = false;
        await local.write(Y.encodeStateAsUpdate(this.doc), lacking);
        this.stored(lacking);
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
