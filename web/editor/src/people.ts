/** Who is here: faces, who is idle, who came and went, and following one of them. */

import { EditorView } from "@codemirror/view";
import * as Y from "yjs";
import { positionOf, selectionOf } from "./carets";
import type { Editor } from "./editor";
import { announce, h } from "./element";
import { avatar, personOf, type Person } from "./person";
import type { Replica } from "./replica";
import { t } from "./strings";

const FACES_LIMIT = 5;
const FACES_LIMIT_PHONE = 3;
// Who has not touched the page for so long is shown as idle; a hidden page is so at once.
const IDLE_MS = 60_000;
// Whoever is back within this time, after a reload or a short cut of the line, has not left.
const LEFT_MS = 5_000;
const VIEW_MS = 200;
// What stands over the text at the top of the window, about.
const TOP = 110;

interface Here extends Person {
  client: number;
  idle: boolean;
}

export function showPeople(replica: Replica, writing: Editor, faces: HTMLElement, shelf: HTMLElement): void {
  const { awareness } = replica;
  const following = new Following(replica, writing, shelf, () => draw());
  const everybody = h("ul", { class: "sheet everybody", popover: "auto", id: "everybody" });
  faces.after(everybody);
  const phone = matchMedia("(max-width: 40rem)");
  let shown = "";
  const draw = (): void => {
    const now: Here[] = [];
    for (const [client, state] of awareness.getStates()) {
      if (client !== awareness.clientID && state.user) now.push({ ...personOf(state.user, client), client, idle: state.idle === true });
    }
    following.see(now);
    const known = JSON.stringify([now, following.client, phone.matches]);
    if (known === shown) return;
    shown = known;
    const focused = (document.activeElement as HTMLElement | null)?.dataset.client;
    const button = (person: Here, ...more: Node[]): HTMLElement =>
      h(
        "button",
        {
          "aria-label": t.together.follow(person.name, person.idle),
          "aria-pressed": String(following.client === person.client),
          "data-client": person.client,
          "data-idle": String(person.idle),
          title: person.idle ? `${person.name}, ${t.together.idle}` : person.name,
          onclick: () => {
            everybody.hidePopover();
            following.toggle(person);
          },
        },
        avatar(person),
        ...more,
      );
    const limit = phone.matches ? FACES_LIMIT_PHONE : FACES_LIMIT;
    const few = now.length > limit ? now.slice(0, limit - 1) : now;
    const more = h("button", { class: "more", popovertarget: "everybody", "aria-label": t.together.everybody(now.length), title: t.together.everybody(now.length) }, `+${now.length - few.length}`);
    faces.replaceChildren(...few.map((person) => h("li", {}, button(person))), ...(now.length > few.length ? [h("li", {}, more)] : []));
    everybody.replaceChildren(...now.map((person) => h("li", {}, button(person, h("span", {}, person.name), h("span", { class: "idle" }, person.idle ? t.together.idle : "")))));
    if (focused) (everybody.matches(":popover-open") ? everybody : faces).querySelector<HTMLElement>(`[data-client="${focused}"]`)?.focus();
    if (now.length <= limit) everybody.hidePopover();
  };
  awareness.on("change", draw);
  phone.addEventListener("change", draw);
  tellComings(replica);
  tellIdleness(replica);
  draw();
}

/** Says who came and who left; but not that of all when it is our own line that was cut. */
function tellComings(replica: Replica): void {
  const { awareness } = replica;
  const known = new Map<string, number>(); // names, and since when they are not seen: a timer
  const look = (): void => {
    const now = new Set<string>();
    for (const [client, { user }] of awareness.getStates()) if (client !== awareness.clientID && user) now.add(personOf(user, client).name);
    for (const name of now) {
      if (!known.has(name)) announce(t.joined(name));
      clearTimeout(known.get(name));
      known.set(name, 0);
    }
    for (const [name, timer] of known) {
      if (now.has(name) || timer !== 0 || !replica.live) continue;
      const leave = (): void => {
        known.set(name, 0);
        if (!replica.live) return; // asked again when it is
        known.delete(name);
        announce(t.left(name));
      };
      known.set(name, window.setTimeout(leave, LEFT_MS));
    }
  };
  awareness.on("change", look);
  replica.watch(look);
  look();
}

/** Others see who has turned away; editors that do not know the field leave it alone. */
function tellIdleness(replica: Replica): void {
  const { awareness } = replica;
  let timer = 0;
  const set = (idle: boolean): void => {
    if ((awareness.getLocalState()?.idle === true) !== idle) awareness.setLocalStateField("idle", idle);
  };
  let clock: Worker | null = null;
  const stir = (): void => {
    clearTimeout(timer);
    keepAlive(document.visibilityState === "hidden");
    if (document.visibilityState === "hidden") return set(true);
    set(false);
    timer = window.setTimeout(() => set(true), IDLE_MS);
  };
  /** Whoever has turned away is still here; presence that is not renewed for half a minute goes. */
  const keepAlive = (hidden: boolean): void => {
    if (hidden === (clock !== null)) return;
    clock?.terminate();
    clock = hidden ? new Worker(new URL("../worker/clock.ts", import.meta.url), { type: "module" }) : null;
    clock?.addEventListener("message", () => awareness.setLocalState(awareness.getLocalState()));
  };
  for (const kind of ["keydown", "pointerdown", "pointermove", "wheel", "touchmove"]) addEventListener(kind, stir, { passive: true, capture: true });
  document.addEventListener("visibilitychange", stir);
  stir();
}

/**
 * Goes where somebody goes: to their caret, and where they scroll to. Whoever is followed tells where they look,
 * and only then. An own edit, an own scroll or Escape ends it, and nothing else: not a cut of either line.
 */
class Following {
  client: number | null = null;
  private person: Here | null = null;
  private here = false;
  private seen = "";
  private viewed = "";
  private timer = 0;
  private banner: HTMLElement | null = null;

  constructor(
    private readonly replica: Replica,
    private readonly writing: Editor,
    private readonly shelf: HTMLElement,
    private readonly changed: () => void,
  ) {
    const { awareness, doc, text } = replica;
    text.observe((_event, { local, beforeState, afterState }) => {
      // The end of the text stays where it is, as a place, while somebody writes there.
      const { client } = this;
      if (local || client === null || (afterState.get(client) ?? 0) <= (beforeState.get(client) ?? 0)) return;
      this.seen = "";
      this.goAlong();
    });
    awareness.on("change", () => this.tellView());
    addEventListener("scroll", () => this.tellView(), { passive: true });
    doc.on("update", (_update: Uint8Array, _origin: unknown, _doc: Y.Doc, { local }: Y.Transaction) => local && this.stop());
    for (const kind of ["wheel", "touchmove"]) addEventListener(kind, () => this.stop(), { passive: true });
    addEventListener("pointerdown", ({ target }) => {
      if (target === document.documentElement || (target instanceof Node && writing.view.dom.contains(target))) this.stop();
    });
    const moving = ["PageUp", "PageDown", "Home", "End", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"];
    document.addEventListener("keydown", (event) => {
      if (this.client === null || event.defaultPrevented || document.querySelector("dialog[open], :popover-open")) return;
      const inText = event.target instanceof Node && (event.target === document.body || writing.view.dom.contains(event.target));
      if (event.key === "Escape" || (inText && moving.includes(event.key))) this.stop();
    }, { capture: true });
  }

  toggle(person: Here): void {
    if (this.client === person.client) return this.stop();
    [this.client, this.person, this.here, this.seen, this.viewed] = [person.client, person, true, "", ""];
    this.replica.awareness.setLocalStateField("following", person.client);
    announce(t.together.followed(person.name));
    this.goAlong();
    this.draw();
    this.changed();
  }

  /** These are here now. */
  see(people: readonly Here[]): void {
    const { client, person } = this;
    if (client === null || !person) return;
    // Who reloads the page comes back as another client.
    const found = people.find((other) => other.client === client) ?? people.find(({ name, color }) => name === person.name && color === person.color);
    this.here = found !== undefined;
    if (found) {
      clearTimeout(this.timer);
      this.timer = 0;
      this.person = found;
      if (found.client !== client) {
        this.client = found.client;
        this.replica.awareness.setLocalStateField("following", found.client);
      }
      this.goAlong();
    } else if (this.timer === 0 && this.replica.live) {
      this.timer = window.setTimeout(() => {
        this.timer = 0;
        if (!this.here && this.replica.live) this.stop();
      }, 2 * LEFT_MS);
    }
    this.draw();
  }

  private stop(): void {
    const { person } = this;
    if (this.client === null || !person) return;
    clearTimeout(this.timer);
    [this.client, this.person, this.timer] = [null, null, 0];
    this.replica.awareness.setLocalStateField("following", null);
    const inside = this.banner?.contains(document.activeElement);
    this.draw();
    if (inside) this.writing.view.contentDOM.focus({ preventScroll: true });
    announce(t.together.ended(person.name));
    // Not in the middle of an update of the text.
    queueMicrotask(this.changed);
  }

  private goAlong(): void {
    const state = this.replica.awareness.getStates().get(this.client as number);
    const { text } = this.replica;
    const [cursor, viewing] = [JSON.stringify(state?.cursor) ?? "", JSON.stringify(state?.viewing) ?? ""];
    const selection = cursor === this.seen ? null : selectionOf(state, text);
    const top = viewing === this.viewed || selection ? null : positionOf(state?.viewing, text);
    [this.seen, this.viewed] = [cursor, viewing];
    const at = selection?.head ?? top;
    if (at === null || at === undefined) return;
    const { view } = this.writing;
    const effect = EditorView.scrollIntoView(Math.min(at, view.state.doc.length), selection ? { y: "center" } : { y: "start", yMargin: TOP });
    // Presence may come while the text is being updated.
    queueMicrotask(() => view.dispatch({ effects: effect }));
    const head = selection ? undefined : selectionOf(state, text)?.head;
    if (head === undefined || head < at) return;
    // A line that they see a part of is whole here, so theirs at the foot of their screen may be below ours.
    requestAnimationFrame(() => {
      const [first, last] = [at, head].map((place) => view.lineBlockAt(Math.min(place, view.state.doc.length)));
      if (first && last && last.bottom - first.top <= innerHeight) view.dispatch({ effects: EditorView.scrollIntoView(Math.min(head, view.state.doc.length)) });
    });
  }

  /** Where we look, for whoever follows us. */
  private tellView(): void {
    const { awareness, text } = this.replica;
    if (this.telling !== 0 || ![...awareness.getStates().values()].some(({ following }) => following === awareness.clientID)) return;
    this.telling = window.setTimeout(() => {
      this.telling = 0;
      const { view } = this.writing;
      const at = view.posAtCoords({ x: view.contentDOM.getBoundingClientRect().left + 1, y: TOP }, false);
      const viewing = Y.createRelativePositionFromTypeIndex(text, Math.min(at, text.length));
      if (JSON.stringify(awareness.getLocalState()?.viewing) !== JSON.stringify(viewing)) awareness.setLocalStateField("viewing", viewing);
    }, VIEW_MS);
  }
  private telling = 0;

  private draw(): void {
    const { person } = this;
    if (!person) {
      this.banner?.remove();
      this.banner = null;
      return;
    }
    if (!this.banner) {
      const stop = h("button", { class: "quiet", onclick: () => this.stop() }, t.together.stop);
      this.banner = h("div", { class: "following" }, h("span", {}), stop);
      this.shelf.append(this.banner);
    }
    this.banner.style.setProperty("--ink", person.color);
    const [words] = this.banner.children;
    words?.replaceChildren(this.here ? t.together.following : t.together.waiting, h("b", {}, person.name));
  }
}
