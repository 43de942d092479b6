/**
 * The copy on this device: every update of a document in IndexedDB, and which of this device's edits the
 * server has not acknowledged.
 *
 * Not y-indexeddb: that one reports neither that a write has reached the disk nor that it failed, and
 * "n edits on this device" must be true. Here an update and its edit are one transaction, so the count
 * after a reload is the count of what is really kept.
 */

import * as Y from "yjs";
import type { Role } from "./api";

/** One edit made on this device: the `n`-th of the page load named `tab`. */
export interface Edit {
  tab: string;
  n: number;
}

/** What is remembered of a document besides its text. */
export interface Remembered {
  name: string;
  title: string;
  /** What one could do with it, null for nothing any more; of what was kept before there were roles, not known. */
  role?: Role | null;
  opened: number;
}

const DATABASE = "collab";
// Beyond this, opening costs more than merging once.
const ROWS_LIMIT = 300;

interface Row {
  document: string;
  update: Uint8Array;
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function committed(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error("the transaction was aborted"));
  });
}

function open(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => {
    const database = request.result;
    database.createObjectStore("updates", { autoIncrement: true }).createIndex("document", "document");
    database.createObjectStore("edits"); // key [document, tab, n], no value worth naming
    database.createObjectStore("documents", { keyPath: "name" });
  };
  return settled(request);
}

/** The documents this device has opened, latest first; empty where nothing can be kept. */
export async function remembered(): Promise<Remembered[]> {
  try {
    const database = await open();
    const all = await settled<Remembered[]>(database.transaction("documents").objectStore("documents").getAll());
    database.close();
    return all.sort((a, b) => b.opened - a.opened);
  } catch {
    return [];
  }
}

/** How many edits of this device, in any document, the server has not acknowledged. */
export async function unsent(): Promise<number> {
  try {
    const database = await open();
    const count = await settled(database.transaction("edits").objectStore("edits").count());
    database.close();
    return count;
  } catch {
    return 0; // where nothing can be kept
  }
}

/** Leaves nothing of any document on this device. Open documents keep their text, and keep it here again. */
export async function forget(): Promise<void> {
  await settled(indexedDB.deleteDatabase(DATABASE));
}

export class LocalCopy {
  private constructor(
    private readonly database: IDBDatabase,
    private readonly document: string,
    lost: () => void,
  ) {
    database.onclose = lost; // the browser evicted it
    database.onversionchange = () => {
      database.close(); // somebody deletes it; to hold on would block them
      lost();
    };
  }

  /** Opens the database; `lost` is called if it is closed or deleted later. Raises where there is none. */
  static async open(document: string, lost: () => void): Promise<LocalCopy> {
    return new LocalCopy(await open(), document, lost);
  }

  /** Everything kept of the document, as one update (or none), and its unacknowledged edits in order. */
  async load(): Promise<{ update: Uint8Array | null; edits: Edit[] }> {
    const transaction = this.database.transaction(["updates", "edits"], "readwrite");
    const done = committed(transaction);
    const updates = transaction.objectStore("updates");
    const mine = IDBKeyRange.only(this.document);
    const [keys, rows, edits] = await Promise.all([
      settled(updates.index("document").getAllKeys(mine)),
      settled<Row[]>(updates.index("document").getAll(mine)),
      settled(transaction.objectStore("edits").getAllKeys(this.range())) as Promise<[string, string, number][]>,
    ]);
    const update = rows.length > 0 ? Y.mergeUpdates(rows.map((row) => row.update)) : null;
    if (update && rows.length > ROWS_LIMIT) {
      for (const key of keys) updates.delete(key);
      updates.add({ document: this.document, update } satisfies Row);
    }
    await done;
    return { update, edits: edits.map(([, tab, n]) => ({ tab, n })) };
  }

  /** Keeps an update and the edits it holds, both or neither. Raises when it could not. */
  async write(update: Uint8Array, edits: readonly Edit[]): Promise<void> {
    const transaction = this.database.transaction(["updates", "edits"], "readwrite");
    transaction.objectStore("updates").add({ document: this.document, update } satisfies Row);
    for (const { tab, n } of edits) transaction.objectStore("edits").put(1, [this.document, tab, n]);
    await committed(transaction);
  }

  /** The server has these edits. */
  async acknowledge(edits: readonly Edit[]): Promise<void> {
    const transaction = this.database.transaction("edits", "readwrite");
    const runs = new Map<string, [number, number]>();
    for (const { tab, n } of edits) {
      const run = runs.get(tab);
      runs.set(tab, run ? [Math.min(run[0], n), Math.max(run[1], n)] : [n, n]);
    }
    for (const [tab, [first, last]] of runs) transaction.objectStore("edits").delete(this.range(tab, first, last));
    await committed(transaction);
  }

  async remembered(): Promise<Remembered | undefined> {
    return settled<Remembered | undefined>(
      this.database.transaction("documents").objectStore("documents").get(this.document),
    );
  }

  async remember(title: string, role: Role | null): Promise<void> {
    const transaction = this.database.transaction("documents", "readwrite");
    const entry: Remembered = { name: this.document, title, role, opened: Date.now() };
    transaction.objectStore("documents").put(entry);
    await committed(transaction);
  }

  close(): void {
    this.database.close();
  }

  private range(tab?: string, first?: number, last?: number): IDBKeyRange {
    if (tab === undefined) return IDBKeyRange.bound([this.document], [this.document, []]);
    return IDBKeyRange.bound([this.document, tab, first], [this.document, tab, last]);
  }
}
