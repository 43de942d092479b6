/** Images that were put into a document while the server was away: they wait on this device, under the address that they will have. */

import { at } from "./api";

/** Known to the service worker, too, which shows them. */
const WAITING = "collab-images";

/** Where the images of a document are, as the server writes it: nothing in it ends a link in Markdown. */
export const pathOf = (document: string): string =>
  `/api${at(document)}/images`.replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);

/** Of which document a path is that `pathOf` begins. */
export const documentOf = (path: string): string => decodeURIComponent(path.split("/")[3] ?? "");

/** Raises where this browser keeps nothing, as over plain HTTP. */
export async function wait(url: string, file: File, name: string): Promise<void> {
  const cache = await caches.open(WAITING);
  await cache.put(url, new Response(file, { headers: { "content-type": file.type, "x-name": encodeURIComponent(name) } }));
}

/** The paths of those of one document, or of all. */
export async function waiting(document?: string): Promise<string[]> {
  if (!("caches" in self) || !(await caches.has(WAITING))) return [];
  const paths = (await (await caches.open(WAITING)).keys()).map((request) => new URL(request.url).pathname);
  return document === undefined ? paths : paths.filter((path) => path.startsWith(`${pathOf(document)}/`));
}

export async function waitingFile(path: string): Promise<{ file: Blob; name: string } | null> {
  const kept = await (await caches.open(WAITING)).match(path);
  return kept ? { file: await kept.blob(), name: decodeURIComponent(kept.headers.get("x-name") ?? "") } : null;
}

export async function stopWaiting(paths: readonly string[]): Promise<void> {
  if (paths.length === 0) return;
  const cache = await caches.open(WAITING);
  await Promise.all(paths.map((path) => cache.delete(path)));
}

/** Where the document of this page has the image that `address` names, whichever document that says; null for other addresses. */
export function ownAddress(address: string): string | null {
  const hash = /^\/api\/documents\/[^/]+\/images\/([0-9a-f]{64})$/.exec(new URL(address, location.href).pathname)?.[1];
  if (hash === undefined || !location.pathname.startsWith("/d/")) return null;
  return new URL(`${pathOf(decodeURIComponent(location.pathname.slice("/d/".length)))}/${hash}`, location.href).href;
}
