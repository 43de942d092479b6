/** The history of one document, as the REST interface tells it (web/history.py). */

import { at, request } from "./api";
import type { Replica } from "./replica";

export interface Actor {
  id: string;
  name: string;
  kind: "user" | "guest" | "agent";
}

/** Characters, as code points. */
export interface Stats {
  inserted: number;
  deleted: number;
}

export type Share = Actor & Stats;

export interface Label {
  id: string;
  seq: number;
  name: string;
  note: string;
  by: Actor;
  at: string;
}

/** A sitting: entries `seq_from` to `seq_to` of the log. One that another follows never changes its bounds. */
export interface Version {
  seq_from: number;
  seq_to: number;
  started_at: string;
  ended_at: string;
  actors: Share[];
  label: Label | null;
  origin: "edit" | "offline" | "import" | "api" | "restore" | "undo";
  stats: Stats;
  excerpt: string;
}

export interface Part {
  op: "keep" | "insert" | "delete";
  text: string;
  /** An id of the page's `actors`; nobody, for what is kept. */
  actor?: string;
  at?: string;
}

export interface DiffPage {
  seq_from: number;
  seq_to: number;
  /** Of the whole, whatever the page. */
  stats: Stats;
  actors: Actor[];
  parts: Part[];
  next: string | null;
}

export interface Bucket extends Stats {
  start: string;
  seq_from: number;
  seq_to: number;
  actors: Share[];
}

export interface Activity {
  /** Seconds that a bucket lasts. */
  bucket: number;
  head: number;
  /** Only those in which something was done. */
  buckets: Bucket[];
}

export interface Restored {
  checkpoint: { seq: number };
  /** That of the checkpoint: there was nothing to do. */
  head: number;
  stats: Stats;
}

/** Characters in a row that one actor typed. */
export interface Run {
  length: number;
  actor: string;
  first_at: string;
  last_at: string;
  /** The last entry that typed in it. */
  seq: number;
}

export interface Blame {
  seq: number;
  actors: Actor[];
  runs: Run[];
  next: number | null;
}

/** A seq, or where the document is now. */
export type Moment = number | "head";

export const PAGE = 50;
const PAGE_LIMIT = 500;

// Asked for the first time, a server may take a minute to work a history out: while the line is up, it does.
const WORKING_MS = 75_000;
const AWAY_MS = 10_000;

/** Every call raises `Refused` when the server says no, and `TypeError` when it says nothing. */
export class Record {
  private readonly path: string;

  constructor(private readonly replica: Replica) {
    this.path = at(replica.name);
  }

  /** Newest first; `cursor` is the `next` of the page before. */
  versions(named: boolean, limit: number, cursor: string | null = null) {
    const query = { kind: named ? "named" : "all", limit: String(Math.min(limit, PAGE_LIMIT)), ...(cursor && { cursor }) };
    return this.get<{ versions: Version[]; head: number; next: string | null }>("versions", query);
  }

  /** The one that entry `seq` belongs to. */
  version(seq: number) {
    return this.get<Version>(`versions/${seq}`);
  }

  diff(from: Moment, to: Moment, cursor: string | null = null) {
    return this.get<DiffPage>("diff", { from: String(from), to: String(to), format: "ops", ...(cursor && { cursor }) });
  }

  /** How much would change; `seq_from` says from where that was measured. */
  difference(from: Moment, to: Moment) {
    return this.get<{ seq_from: number; stats: Stats }>("diff", { from: String(from), to: String(to), format: "stats" });
  }

  async text(seq: number): Promise<string> {
    const { roots } = await this.get<{ roots: { content?: string } }>("content", { at: String(seq), format: "json" });
    return roots.content ?? "";
  }

  /** Who typed what is there now; positions are code points. */
  blame(from: number, to: number) {
    return this.get<Blame>("blame", { at: "head", from: String(from), to: String(to) });
  }

  activity(bucket?: number) {
    return this.get<Activity>("activity", bucket === undefined ? {} : { bucket: `${bucket.toFixed(3)}s` });
  }

  name(seq: number, name: string, note = "") {
    return this.ask<Version>("POST", `${this.path}/versions`, { name, note, at: seq });
  }

  rename(id: string, name: string) {
    return this.ask<Label>("PATCH", `${this.path}/versions/${encodeURIComponent(id)}`, { name });
  }

  unname(id: string) {
    return this.ask<void>("DELETE", `${this.path}/versions/${encodeURIComponent(id)}`);
  }

  /** Refused with 412 when the document is not at `expected` any more. */
  restore(seq: number, expected?: number) {
    return this.ask<Restored>("POST", `${this.path}/restore`, {
      from: seq,
      ...(expected !== undefined && { expected_head: expected }),
    });
  }

  /** Takes back entries after `since` up to `until`, and nothing that came later. */
  undo(since: number, until: number) {
    return this.ask<Restored>("POST", `${this.path}/undo`, { since, until });
  }

  private get<T>(what: string, query: { [name: string]: string } = {}): Promise<T> {
    const search = new URLSearchParams(query).toString();
    return this.ask<T>("GET", `${this.path}/${what}${search && `?${search}`}`);
  }

  private async ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    const giveUp = new AbortController();
    const since = Date.now();
    const watch = setInterval(() => {
      if (Date.now() - since > (this.replica.live ? WORKING_MS : AWAY_MS)) giveUp.abort();
    }, 1000);
    try {
      return await request<T>(method, path, body, giveUp.signal);
    } finally {
      clearInterval(watch);
    }
  }
}
