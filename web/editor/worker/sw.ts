export {};

/**
 * Serves the page itself while the server is away, and images that the server has not got yet. Never touches
 * documents: those live in IndexedDB and arrive over the socket, so a stale worker can make the page old but
 * not wrong.
 */

declare const self: ServiceWorkerGlobalScope;
declare const __SHELL__: string[]; // filled in by vite.config.ts; a new build is a new worker

const SHELL = __SHELL__;
const CACHE = "collab-page-1";
const PAGE = "/";
// One page for all of them; which it is, it sees by its address.
const PAGES = /^\/(?:$|d\/|s$|join$|sign-in$|device$)/;
// Images that were put into a document while the server was away (src/images.ts).
const WAITING = "collab-images";
const IMAGE = /^\/api\/documents\/[^/]+\/images\/[0-9a-f]{64}$/;
// A server that has not sent one small page by now is treated as away.
const PATIENCE_MS = 3000;

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll([new Request(PAGE, { cache: "reload" }), ...SHELL]))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      // What an older build left goes, except files that were fetched when needed and are still in use.
      const cache = await caches.open(CACHE);
      for (const request of await cache.keys()) {
        const path = new URL(request.url).pathname;
        if (path !== PAGE && !SHELL.includes(path) && !path.endsWith(".woff2")) await cache.delete(request);
      }
      await self.clients.claim();
    })(),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return;
  if (request.mode === "navigate" && PAGES.test(url.pathname)) {
    event.respondWith(page(request));
  } else if (url.pathname.startsWith("/assets/")) {
    event.respondWith(asset(request));
  } else if (IMAGE.test(url.pathname)) {
    event.respondWith(image(request));
  }
});

async function page(request: Request): Promise<Response> {
  const cached = await caches.match(PAGE);
  try {
    const answer = await fetch(request, cached ? { signal: AbortSignal.timeout(PATIENCE_MS) } : {});
    // A proxy's "bad gateway" is the server being away, not an answer.
    return answer.status >= 502 && cached ? cached : answer;
  } catch (error) {
    if (cached) return cached;
    throw error;
  }
}

async function asset(request: Request): Promise<Response> {
  const cached = await caches.match(request);
  if (cached) return cached;
  const answer = await fetch(request);
  if (answer.ok && request.url.endsWith(".woff2")) await (await caches.open(CACHE)).put(request, answer.clone());
  return answer;
}

async function image(request: Request): Promise<Response> {
  const waiting = (await caches.has(WAITING)) && (await (await caches.open(WAITING)).match(request.url));
  return waiting || fetch(request);
}
