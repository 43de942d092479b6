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
import { documentOf, stopWaiting, waiting } from "./waiting";
import type { Did } from "./meeting";

/** One edit made on this device: the `n`-th of the page load named `tab`. */
export interface Edit {
  tab: string;
  n: number;
  /** What it did; null for one that was kept before that was kept too. */
  did: Did | null;
}

/** What is remembered of a document besides its text. */
export interface Remembered {
  name: string;
  title: string;
  /** What one could do with it, null for nothing any more; of what was kept before there were roles, not known. */
  role?: Role | null;
  opened: number;
  /** Of the server's document that this is a copy of; null until it has said so. */
  epoch?: number | null;
  /** It was begun here without a server, which is yet to make it. */
  fresh?: boolean;
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
    database.createObjectStore("edits"); // key [document, tab, n]; the value is what it did
    database.createObjectStore("documents", { keyPath: "name" });
  };
  return settled(request);
}

/** A document on this device. */
export interface Kept extends Remembered {
  /** Edits that the server has not acknowledged, and images that it has not got. */
  unsent: number;
  bytes: number;
}

/** All documents on this device and what they take, latest first. Raises where nothing can be kept. */
export async function kept(): Promise<Kept[]> {
  const database = await open();
  try {
    const transaction = database.transaction(["documents", "updates", "edits"]);
    const found = new Map<string, Kept>();
    const of = (name: string): Kept => {
      const known = found.get(name) ?? { name, title: "", role: null, opened: 0, unsent: 0, bytes: 0 };
      found.set(name, known);
      return known;
    };
    const [documents, edits] = await Promise.all([
      settled<Remembered[]>(transaction.objectStore("documents").getAll()),
      settled(transaction.objectStore("edits").getAllKeys()) as Promise<[string, string, number][]>,
      each<Row>(transaction.objectStore("updates"), ({ document, update }) => (of(document).bytes += update.byteLength)),
    ]);
    for (const document of documents) Object.assign(of(document.name), document);
    for (const [document] of edits) of(document).unsent += 1;
    for (const path of await waiting()) of(documentOf(path)).unsent += 1;
    return [...found.values()].sort((a, b) => b.opened - a.opened);
  } finally {
    database.close();
  }
}

/** One row after the other: all of them at once may be more than there is room for. */
function each<T>(store: IDBObjectStore, take: (row: T) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = store.openCursor();
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const cursor = request.result;
      if (!cursor) return resolve();
      take(cursor.value as T);
      cursor.continue();
    };
  });
}

/** Begins a document on this device, for when no server can be asked; returns its name. */
export async function begin(): Promise<string> {
  const bytes = crypto.getRandomValues(new Uint8Array(9)); // as the server chooses names
  const name = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
  const database = await open();
  try {
    const transaction = database.transaction("documents", "readwrite");
    const entry: Remembered = { name, title: "", role: "owner", opened: Date.now(), fresh: true };
    transaction.objectStore("documents").put(entry);
    await committed(transaction);
  } finally {
    database.close();
  }
  return name;
}

/** Leaves nothing of one document on this device; where it is open, all of it is kept again. */
export async function remove(name: string): Promise<void> {
  const database = await open();
  try {
    await removeFrom(database, name);
    await stopWaiting(await waiting(name));
  } finally {
    database.close();
  }
  const tabs = tabsOf(name);
  tabs.postMessage("removed" satisfies Shared);
  tabs.close();
}

/** What tabs of one browser tell each other of a document: what one has kept here, and that nothing is kept any more. */
export type Shared = { update: Uint8Array; edits: readonly Edit[] } | "removed" | "let go";

export const tabsOf = (name: string): BroadcastChannel => new BroadcastChannel(`collab:${name}`);

async function removeFrom(database: IDBDatabase, name: string): Promise<void> {
  const transaction = database.transaction(["documents", "updates", "edits"], "readwrite");
  const done = committed(transaction);
  transaction.objectStore("documents").delete(name);
  transaction.objectStore("edits").delete(IDBKeyRange.bound([name], [name, []]));
  const updates = transaction.objectStore("updates");
  for (const key of await settled(updates.index("document").getAllKeys(IDBKeyRange.only(name)))) updates.delete(key);
  await done;
}

const ASKED = "collab.asked-to-keep";

/** Asks the browser, once for ever, to keep this when it runs out of space. What it said stands on the page of the device. */
export function askToKeep(): void {
  // Over plain HTTP from elsewhere a browser lets nobody ask.
  const storage = navigator.storage as StorageManager | undefined;
  if (!storage?.persist || localStorage.getItem(ASKED)) return;
  localStorage.setItem(ASKED, "yes");
  void storage.persist();
}

/** How many edits of this device, in any document, the server has not acknowledged. */
export async function unsent(): Promise<number> {
  try {
    const database = await open();
    const count = await settled(database.transaction("edits").objectStore("edits").count());
    database.close();
    return count + (await waiting()).length;
  } catch {
    return 0; // where nothing can be kept
  }
}

/** Leaves nothing of any document on this device. Open documents keep their text, and keep it here again. */
export async function forget(): Promise<void> {
  await settled(indexedDB.deleteDatabase(DATABASE));
  await stopWaiting(await waiting());
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
      this.edits(transaction.objectStore("edits")),
    ]);
    const update = rows.length > 0 ? Y.mergeUpdates(rows.map((row) => row.update)) : null;
    if (update && rows.length > ROWS_LIMIT) {
      for (const key of keys) updates.delete(key);
      updates.add({ document: this.document, update } satisfies Row);
    }
    await done;
    return { update, edits };
  }

  private async edits(store: IDBObjectStore): Promise<Edit[]> {
    const [keys, values] = await Promise.all([
      settled(store.getAllKeys(this.range())) as Promise<[string, string, number][]>,
      settled<(Did | number)[]>(store.getAll(this.range())),
    ]);
    return keys.map(([, tab, n], i) => ({ tab, n, did: typeof values[i] === "object" ? (values[i] as Did) : null }));
  }

  /** Keeps an update and the edits it holds, both or neither. Raises when it could not. */
  async write(update: Uint8Array, edits: readonly Edit[]): Promise<void> {
    const transaction = this.database.transaction(["updates", "edits"], "readwrite");
    transaction.objectStore("updates").add({ document: this.document, update } satisfies Row);
    for (const { tab, n, did } of edits) transaction.objectStore("edits").put(did ?? 1, [this.document, tab, n]);
    // Without this it is done only when the page has heard of each request, and a page that is closed hears nothing.
    transaction.commit();
    await committed(transaction);
  }

  /** The server has these edits. */
  async acknowledge(edits: readonly Edit[]): Promise<void> {
    const transaction = this.database.transaction("edits", "readwrite");
    const runs: { tab: string; first: number; last: number }[] = [];
    for (const { tab, n } of edits) {
      const run = runs.at(-1);
      if (run?.tab === tab && run.last + 1 === n) run.last = n;
      else runs.push({ tab, first: n, last: n });
    }
    for (const { tab, first, last } of runs) transaction.objectStore("edits").delete(this.range(tab, first, last));
    transaction.commit();
    await committed(transaction);
  }

  async remembered(): Promise<Remembered | undefined> {
    return settled<Remembered | undefined>(
      this.database.transaction("documents").objectStore("documents").get(this.document),
    );
  }

  async remember(title: string, role: Role | null, epoch: number | null): Promise<void> {
    const transaction = this.database.transaction("documents", "readwrite");
    const entry: Remembered = { name: this.document, title, role, opened: Date.now(), epoch };
    transaction.objectStore("documents").put(entry);
    transaction.commit();
    await committed(transaction);
  }

  /** Leaves nothing of it here. */
  remove(): Promise<void> {
    return removeFrom(this.database, this.document);
  }

  close(): void {
    this.database.close();
  }

  private range(tab?: string, first?: number, last?: number): IDBKeyRange {
    if (tab === undefined) return IDBKeyRange.bound([this.document], [this.document, []]);
    return IDBKeyRange.bound([this.document, tab, first], [this.document, tab, last]);
  }
}
