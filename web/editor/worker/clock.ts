export {};

/** Ticks for a page that nobody looks at, whose own timers browsers let run once a minute. */

const TICK_MS = 10_000;

setInterval(() => postMessage(null), TICK_MS);
