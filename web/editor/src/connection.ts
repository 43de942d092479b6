/**
 * The line to the server: the stock y-websocket provider, and around it what that cannot tell: whether an
 * edit is on the server's disk (message 102, docs/protocol.md), and whether the line is dead.
 */

import * as decoding from "lib0/decoding";
import * as encoding from "lib0/encoding";
import { encodeAwarenessUpdate, type Awareness } from "y-protocols/awareness";
import { readAuthMessage } from "y-protocols/auth";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";

const SYNC = 0;
const SYNC_STEP_1 = 0;
const AWARENESS = 1;
const AUTH = 2;
const ACKNOWLEDGE = 102;

// A silent line is asked after QUIET_MS and given up DEAD_MS later: a black hole is seen within ten seconds.
const QUIET_MS = 4_000;
const DEAD_MS = 4_000;
// Until the first answer a socket has this long between two signs of life: a large document on a slow line
// comes in frames that take their time, and to dial again would begin them again.
const OPENING_MS = 25_000;
// A server that is there has answered by now; after this the page says that it is not.
const FIRST_ANSWER_MS = 2_500;

// Close codes from the first to the second mean stop, and the second: come back, as what you are now.
const FIRST_STOP = 4400;
const COME_BACK = 4500;
// What we sent extends what somebody else is writing: their edits, which the server has lost, and which they are
// about to send themselves. Then ours are taken.
const IN_USE = 4409;
const IN_USE_TIMES = 5;
const IN_USE_MS = 1_000;

/** The close code for a copy of what was reset. */
export const ANOTHER = 4410;

/** Why the server wants no more of this client. `code` is the close code, or 0 for a refused edit. */
export interface Stopped {
  code: number;
  reason: string;
}

export interface Listener {
  /** A socket is open, and nothing has been heard on it yet. */
  dialled(): void;
  /** Whether a server that has seen this (a state vector) means another document than ours by its name. */
  isAnother(seen: Map<number, number>): boolean;
  /** `live` or `denied` may have changed. */
  changed(): void;
  /** Everything up to this mark is on the server's disk. */
  acknowledged(mark: number): void;
  /** The server takes no edit of ours on this line. */
  denied(): void;
  /** It has closed the line: who we are, or what we may do, has changed. `comeBack` dials again. */
  sentAway(): void;
  stopped(why: Stopped): void;
}

export class Connection {
  readonly provider: WebsocketProvider;
  /** At least one attempt has ended, or has taken long enough to be called one that failed. */
  tried = false;
  /** Why the server took an edit of ours not, on this line; it takes none after that. Empty: it did not. */
  denied = "";
  private patience = 0;
  private mark = 0;
  private asked: number | null = null;
  private inUse = 0;
  private answered = false;
  private open = false;
  private heard = 0;
  private buffered = 0;
  private askedAt = 0;
  // Told apart, an answer to a question put on an earlier socket is not taken for this one's.
  private socket = 0;

  constructor(
    name: string,
    doc: Y.Doc,
    awareness: Awareness,
    private readonly listener: Listener,
  ) {
    const server = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/ws`;
    this.provider = new WebsocketProvider(server, encodeURIComponent(name), doc, {
      connect: false,
      awareness,
      // Tabs share edits in replica.ts, where each forwards them; here a tab would keep them from the server.
      disableBc: true,
    });
    this.provider.on("status", ({ status }: { status: string }) => {
      this.onStatus();
      if (status !== "connected") return;
      this.listener.dialled();
      // y-protocols keeps the clocks of those it has lost, and takes nobody back before a clock moves, up to
      // 15 s later. Forget theirs, and move ours for the others.
      for (const client of [...awareness.meta.keys()]) {
        if (client !== awareness.clientID) awareness.meta.delete(client);
      }
      awareness.setLocalState(awareness.getLocalState());
    });
    this.provider.on("sync", () => this.listener.changed());
    this.provider.on("connection-close", (event: CloseEvent | null) => {
      const code = event?.code ?? 0;
      if (code < FIRST_STOP || code > COME_BACK) return this.giveUp();
      this.waitForAnswer(); // it has been heard; it is not away
      if (code !== COME_BACK) return;
      this.provider.shouldConnect = false;
      this.listener.sentAway();
    });
    this.provider.on("closed", ({ code, reason }) => {
      if (code === IN_USE && ++this.inUse <= IN_USE_TIMES) setTimeout(() => this.connect(), IN_USE_MS);
      else this.listener.stopped({ code, reason });
    });
    this.handle();
    this.muteEcho(awareness);
    window.setInterval(() => this.watch(), 1000);
    addEventListener("online", () => this.restart());
    addEventListener("offline", () => this.restart());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible" && !this.open) this.restart();
    });
  }

  /** The server has answered on this socket and its content is here. */
  get live(): boolean {
    return this.open && this.answered && this.provider.synced;
  }

  /** There is a line, or one is being opened: the server knows on it who we were when it was dialled. */
  get dialled(): boolean {
    return this.provider.wsconnected || this.provider.wsconnecting;
  }

  /** Tells this line from those before and after it; null while none is up. */
  get line(): number | null {
    return this.live ? this.socket : null;
  }

  /** From now on a line is opened only to a document that was not reset since ours was copied. */
  copyOf(epoch: number): void {
    this.provider.params.epoch = String(epoch);
  }

  connect(): void {
    this.provider.connect();
    this.waitForAnswer();
  }

  /** Dials again, the later the more often the server has sent us away before it answered. */
  comeBack(): void {
    const { maxBackoffTime, wsUnsuccessfulReconnects } = this.provider;
    setTimeout(() => this.connect(), Math.min(100 * 2 ** wsUnsuccessfulReconnects, maxBackoffTime));
  }

  /** Opens another line, on which the server sees who we are now. */
  redial(): void {
    this.waitForAnswer();
    this.restart();
  }

  /** Asks for the acknowledgement of everything sent so far, which is every edit up to `mark`. */
  expect(mark: number): void {
    this.mark = mark;
    if (this.asked === null) this.ask();
  }

  private onStatus(): void {
    this.open = false;
    this.answered = false;
    this.asked = null;
    this.denied = "";
    this.socket += 1;
    this.heard = this.askedAt = Date.now();
    this.listener.changed();
  }

  private waitForAnswer(): void {
    this.tried = false;
    clearTimeout(this.patience);
    this.patience = window.setTimeout(() => this.giveUp(), FIRST_ANSWER_MS);
  }

  private giveUp(): void {
    this.tried = true;
    this.listener.changed();
  }

  private handle(): void {
    const { messageHandlers } = this.provider;
    const sync = messageHandlers[SYNC] as (typeof messageHandlers)[number];
    messageHandlers[SYNC] = (encoder, decoder, ...rest) => {
      const step = decoding.peekVarUint(decoder);
      if (step === SYNC_STEP_1 && this.meetsAnother(decoder)) return;
      sync(encoder, decoder, ...rest);
      if (step !== SYNC_STEP_1) return;
      // Our step 2, with all that the server lacks, goes out when this handler returns; what is asked
      // after it covers every edit.
      queueMicrotask(() => {
        this.open = true;
        this.ask();
      });
    };
    messageHandlers[AUTH] = (_encoder, decoder, provider) => {
      readAuthMessage(decoder, provider.doc, (_doc, reason) => {
        // It comes in the place of acknowledgements, so it is an answer too.
        this.asked = null;
        this.answered = true;
        const first = this.denied === "";
        this.denied = reason;
        if (first) this.listener.denied();
        this.listener.changed();
      });
    };
    messageHandlers[ACKNOWLEDGE] = (_encoder, decoder) => {
      const payload = decoding.createDecoder(decoding.readVarUint8Array(decoder));
      if (decoding.readVarUint(payload) !== this.socket) return;
      const mark = decoding.readVarUint(payload);
      this.asked = null;
      this.answered = true;
      this.inUse = 0;
      this.listener.acknowledged(mark);
      if (mark < this.mark) this.ask();
      this.listener.changed();
    };
  }

  /** Looks at what the server has before anything of it is taken, or anything of ours given. */
  private meetsAnother(decoder: decoding.Decoder): boolean {
    const ahead = decoding.clone(decoder);
    decoding.readVarUint(ahead);
    if (!this.listener.isAnother(Y.decodeStateVector(decoding.readVarUint8Array(ahead)))) return false;
    this.provider.disconnect();
    this.listener.stopped({ code: ANOTHER, reason: "" });
    return true;
  }

  private ask(): void {
    const { ws } = this.provider;
    if (!this.open || ws?.readyState !== WebSocket.OPEN) return;
    const payload = encoding.createEncoder();
    encoding.writeVarUint(payload, this.socket);
    encoding.writeVarUint(payload, this.mark);
    const message = encoding.createEncoder();
    encoding.writeVarUint(message, ACKNOWLEDGE);
    encoding.writeVarUint8Array(message, encoding.toUint8Array(payload));
    this.asked = this.mark;
    this.askedAt = Date.now();
    ws.send(encoding.toUint8Array(message));
  }

  /** The stock handler sends every stranger's presence back to the server: n people, n² messages. */
  private muteEcho(awareness: Awareness): void {
    awareness.off("update", this.provider._awarenessUpdateHandler);
    awareness.on("update", ({ added, updated, removed }: Record<string, number[]>) => {
      const { ws } = this.provider;
      const mine = [added, updated, removed].some((clients) => clients?.includes(awareness.clientID));
      if (!mine || ws?.readyState !== WebSocket.OPEN) return;
      const message = encoding.createEncoder();
      encoding.writeVarUint(message, AWARENESS);
      encoding.writeVarUint8Array(message, encodeAwarenessUpdate(awareness, [awareness.clientID]));
      ws.send(encoding.toUint8Array(message));
    });
  }

  private watch(): void {
    const { ws } = this.provider;
    if (!ws) return;
    const now = Date.now();
    // An upload that moves is a sign of life too.
    if (ws.bufferedAmount < this.buffered) this.heard = now;
    this.buffered = ws.bufferedAmount;
    const silent = now - Math.max(this.heard, this.askedAt, this.provider.wsLastMessageReceived);
    if (silent > (this.answered ? DEAD_MS : OPENING_MS) && (this.asked !== null || !this.open)) this.restart();
    else if (silent > QUIET_MS && this.asked === null) this.ask();
  }

  /** Drops the socket without waiting for its goodbye, and dials again. */
  private restart(): void {
    if (!this.provider.shouldConnect) return;
    this.provider.disconnect();
    this.provider.connect();
  }
}
