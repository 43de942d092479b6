/**
 * What was done apart, told when a copy meets its server again: by others, and by ours.
 *
 * Not guessed from two texts: every letter of a Y.Text has an id, so what came and what went is known to the
 * letter, whatever the merge made of it, and also after a reload.
 */

import * as Y from "yjs";

/** Letters whose ids follow each other. */
export interface Span {
  client: number;
  clock: number;
  length: number;
}

/** Letters that were deleted; `text` is null where it cannot be known any more. */
export interface Gone extends Span {
  text: string | null;
}

/** What one edit, or many, did to a text. */
export interface Did {
  came: Span[];
  gone: Gone[];
}

export interface Meeting {
  theirs: Did;
  mine: Did;
  /** Since when the two were apart, as far as is known: milliseconds. */
  since: number;
}

/** What a transaction did to `text`; to be called before it is cleaned up, when deleted letters are still known. */
export function didIn(transaction: Y.Transaction, text: Y.Text): Did {
  const came: Span[] = [];
  for (const [client, clock] of transaction.afterState) {
    const before = transaction.beforeState.get(client) ?? 0;
    if (clock > before) came.push({ client, clock: before, length: clock - before });
  }
  const gone: Gone[] = [];
  Y.iterateDeletedStructs(transaction, transaction.deleteSet, (struct: Y.Item | Y.GC) => {
    const { client, clock } = struct.id;
    // What came and went at once was never seen.
    if (!(struct instanceof Y.Item) || struct.parent !== text || clock >= (transaction.beforeState.get(client) ?? 0)) return;
    const { content, length } = struct;
    if (content.isCountable()) gone.push({ client, clock, length, text: content instanceof Y.ContentString ? content.str : null });
  });
  return { came, gone };
}

export function joined(all: readonly Did[]): Did {
  return { came: all.flatMap(({ came }) => came), gone: all.flatMap(({ gone }) => gone) };
}

/** One stretch that came, or one point (`from` is `to`) at which `gone` went; null: nobody knows what. */
export interface Piece {
  from: number;
  to: number;
  gone: string | null;
}

/** A place in a text where one side did something: pieces with next to nothing between them. */
export interface Place {
  mine: boolean;
  from: number;
  to: number;
  pieces: Piece[];
  /** Yjs clients that typed here. */
  clients: Set<number>;
  /** Letters that went from here, of each stretch the first. */
  letters: { client: number; clock: number }[];
}

// Two changes with no more than this between them are seen as one.
const NEAR = 2;

/** Where in the text, as it is now, both sides did what they did, in order. */
export function placesOf(text: Y.Text, { mine, theirs }: Pick<Meeting, "mine" | "theirs">): Place[] {
  const sides = ([[true, mine], [false, theirs]] as const).map(([side, did]) => ({
    mine: side,
    came: byClient(did.came),
    gone: byClient(did.gone),
    last: null as Place | null,
  }));
  const found: Place[] = [];
  const add = (side: (typeof sides)[number], piece: Piece, { client, clock }: { client: number; clock: number }): void => {
    let { last } = side;
    if (last && piece.from - last.to <= NEAR) {
      const before = last.pieces.at(-1) as Piece;
      if (before.to === piece.from && before.gone === "" && piece.gone === "") before.to = piece.to;
      else if (before.to === piece.from && before.gone && piece.gone) before.gone += piece.gone;
      else last.pieces.push(piece);
      last.to = piece.to;
    } else {
      found.push((last = { mine: side.mine, from: piece.from, to: piece.to, pieces: [piece], clients: new Set(), letters: [] }));
      side.last = last;
    }
    if (piece.from < piece.to) last.clients.add(client);
    else last.letters.push({ client, clock });
  };
  let at = 0;
  for (let item = text._start; item; item = item.right) {
    const { client, clock } = item.id;
    const end = clock + item.length;
    for (const side of sides) {
      const came = side.came.get(client);
      if (!item.deleted && item.countable) {
        for (const one of touching(came, clock, end)) {
          add(side, { from: at + Math.max(one.clock, clock) - clock, to: at + Math.min(one.clock + one.length, end) - clock, gone: "" }, item.id);
        }
      } else if (item.deleted) {
        for (const one of touching(side.gone.get(client), clock, end)) {
          // Nobody else has seen what came and went meanwhile.
          if (touching(came, one.clock, one.clock + 1).next().value) continue;
          const [from, to] = [Math.max(one.clock, clock) - one.clock, Math.min(one.clock + one.length, end) - one.clock];
          add(side, { from: at, to: at, gone: one.text?.slice(from, to) ?? null }, { client, clock: Math.max(one.clock, clock) });
        }
      }
    }
    if (!item.deleted && item.countable) at += item.length;
  }
  return found.sort((a, b) => a.from - b.from || a.to - b.to);
}

function byClient<T extends Span>(spans: readonly T[]): Map<number, T[]> {
  const found = new Map<number, T[]>();
  for (const span of spans) {
    const list = found.get(span.client);
    if (list) list.push(span);
    else found.set(span.client, [span]);
  }
  for (const list of found.values()) list.sort((a, b) => a.clock - b.clock);
  return found;
}

/** Those of a client's spans, which are in order and apart, that have something of these clocks. */
function* touching<T extends Span>(spans: readonly T[] = [], from: number, to: number): Generator<T, undefined> {
  let [low, high] = [0, spans.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const span = spans[middle] as T;
    if (span.clock + span.length <= from) low = middle + 1;
    else high = middle;
  }
  for (let i = low; i < spans.length && (spans[i] as T).clock < to; i++) yield spans[i] as T;
}
