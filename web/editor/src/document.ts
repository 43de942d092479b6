/** One document: its title, who is here, its status, its text. */

import { EditorView } from "@codemirror/view";
import { api, mayWrite, Refused, signInAddress } from "./api";
import { selectionOf } from "./carets";
import { editor, type Editor } from "./editor";
import { announce, h, icon, toast } from "./element";
import { account, avatar, meet, myself, personOf, watchMe, type Person } from "./person";
import { DELETED, NOT_SHARED, Replica, SIGNED_OUT, type Status } from "./replica";
import { t } from "./strings";

const FACES_LIMIT = 5;
// "Saved" returns when the typing rests; it is never shown early, only late.
const REST_MS = 500;
const CLOCK = "M10 3.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13M10 6.5v3.8l2.7 1.5";

export function open(name: string): void {
  const replica = new Replica(name);
  const home = h("a", { class: "home", href: "/", "aria-label": t.home, title: t.home }, icon("M12 4l-6 6 6 6"));
  const faces = h("ul", { class: "faces", "aria-label": t.people });
  const chip = h("span", { class: "status", id: "status" });
  const notice = h("div", { class: "notice", role: "status", hidden: true });
  const page = h("main", { class: "page" });
  const past = h("button", { class: "to-past", hidden: true, title: t.history }, icon(CLOCK), h("span", {}, t.history));
  const heading = h("h1", { class: "hidden" }); // the title again, for who moves by headings
  const people = h("div", { class: "people" }, faces, past, ...myself());
  const bar = h("header", { class: "bar" }, heading, home, titleField(name, replica, heading), chip, people);
  document.body.className = "writing";
  document.body.append(bar, notice, page);

  const writing = editor(page, replica);
  writing.hint(t.opening);
  watchMe((person) => replica.awareness.setLocalStateField("user", person));
  showPeople(replica, writing, faces);
  showStatus(replica, writing, chip, notice);
  showClosed(replica, page);
  showPast(replica, writing, past, bar, [notice, page]);
  // Signed in again in another tab, or let in by somebody: to look back here is enough.
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && void comeBack(replica));
  // The empty part of the page belongs to the text.
  page.addEventListener("mousedown", (event) => {
    if (event.target !== page || !replica.writable) return;
    event.preventDefault();
    writing.view.focus();
    if (event.offsetY > writing.view.dom.offsetTop) writing.view.dispatch({ selection: { anchor: writing.view.state.doc.length } });
  });
}

/** The title is kept by the server beside the text; others learn of a new one through awareness. */
function titleField(name: string, replica: Replica, heading: HTMLElement): HTMLElement {
  const field = h("input", {
    class: "title",
    "aria-label": t.title,
    placeholder: t.untitled,
    autocomplete: "off",
    maxlength: 200,
  });
  const show = (): void => {
    const { title } = replica;
    if (document.activeElement !== field) field.value = title;
    field.readOnly = !replica.writable;
    heading.textContent = title || t.untitled;
    if (!isClosed(replica)) document.title = `${title || name} · ${t.product}`;
  };
  const write = async (): Promise<void> => {
    const wanted = field.value.trim();
    if (wanted === replica.title || field.readOnly) return;
    try {
      let saved;
      try {
        saved = await api.rename(name, wanted);
      } catch (error) {
        if (!(error instanceof Refused && error.status === 404)) throw error;
        saved = await api.create({ name, title: wanted });
      }
      replica.learnOf(saved.title, saved.role);
      replica.awareness.setLocalStateField("titled", Date.now());
    } catch (error) {
      field.value = replica.title;
      toast(error instanceof Refused ? t.failed(error.message) : t.unreachable);
    }
  };
  field.addEventListener("change", () => void write());
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") field.value = replica.title;
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    field.blur();
    document.querySelector<HTMLElement>(".cm-content")?.focus();
  });
  const titled = new Map<number, unknown>();
  replica.awareness.on("change", () => {
    let news = false;
    for (const [client, state] of replica.awareness.getStates()) {
      if (client === replica.awareness.clientID || state.titled === titled.get(client)) continue;
      titled.set(client, state.titled);
      news = true;
    }
    if (news && replica.live) void replica.look();
  });
  replica.watch(show);
  show();
  return field;
}

function showPeople(replica: Replica, writing: Editor, faces: HTMLElement): void {
  const { awareness, text } = replica;
  let here = new Map<number, Person>();
  const goTo = (client: number): void => {
    const selection = selectionOf(awareness.getStates().get(client), text);
    if (selection) writing.view.dispatch({ effects: EditorView.scrollIntoView(selection.head, { y: "center" }) });
  };
  const draw = (): void => {
    const now = new Map<number, Person>();
    for (const [client, state] of awareness.getStates()) {
      if (client !== awareness.clientID && state.user) now.set(client, personOf(state.user, client));
    }
    for (const [client, person] of now) if (!here.has(client)) announce(t.joined(person.name));
    for (const [client, person] of here) if (!now.has(client)) announce(t.left(person.name));
    const known = JSON.stringify([...here]);
    here = now;
    if (JSON.stringify([...now]) === known) return;
    const shown = [...now].slice(0, FACES_LIMIT);
    const more = now.size - shown.length;
    faces.replaceChildren(
      ...shown.map(([client, person]) => {
        const label = t.person(person.name);
        return h("li", {}, h("button", { "aria-label": label, title: person.name, onclick: () => goTo(client) }, avatar(person)));
      }),
      ...(more > 0 ? [h("li", { class: "more", title: t.andMore(more) }, `+${more}`)] : []),
    );
  };
  awareness.on("change", draw);
  draw();
}

function words(replica: Replica, status: Status): string {
  switch (status.kind) {
    case "offline":
      return replica.writable ? t.offline(status.edits) : t.readingOffline;
    case "unstored":
      return t.unstored(status.edits);
    case "signedOut":
      return t.signedOutStatus(status.edits);
    case "stopped":
      if (status.why.code === DELETED) return t.deletedStatus;
      return status.why.code === NOT_SHARED ? t.unsharedStatus : t.readOnlyStatus;
    default:
      return t[status.kind];
  }
}

/** Nothing to show: the server has not let us in since the page was opened, and nothing of ours waits here. */
function isClosed(replica: Replica): boolean {
  const { status } = replica;
  if (replica.seen) return false;
  if (status.kind === "signedOut") return replica.role === null && status.edits === 0;
  return status.kind === "stopped" && status.why.code === NOT_SHARED && status.edits === 0;
}

function showStatus(replica: Replica, writing: Editor, chip: HTMLElement, notice: HTMLElement): void {
  let shown: Status["kind"] | null = null;
  let noticed = "";
  let settledAt = 0;
  let timer = 0;
  const draw = (): void => {
    const { status, writable } = replica;
    clearTimeout(timer);
    if (status.kind === "saving") settledAt = Date.now() + REST_MS;
    if (status.kind === "saved" && shown === "saving" && Date.now() < settledAt) {
      timer = window.setTimeout(draw, settledAt - Date.now());
      return;
    }
    const said = words(replica, status);
    if (chip.textContent !== said) chip.replaceChildren(h("i", { "aria-hidden": "true" }), h("span", {}, said));
    chip.dataset.kind = status.kind;
    lock(!writable);
    if (status.kind !== "connecting") writing.hint(writable ? t.placeholder : t.nothingYet);
    showNotice(status);
    if (status.kind === shown) return;
    const away = shown !== null && ["offline", "unstored", "stopped", "signedOut"].includes(shown);
    const read = shown === "reading";
    shown = status.kind;
    // What has a notice speaks through that.
    if (shown === "offline" || shown === "reading") announce(said);
    else if (shown === "saved" && (away || read)) announce(read ? t.mayWrite : t.back);
  };
  const lock = (readOnly: boolean): void => {
    if (readOnly === writing.locked) return;
    writing.lock(readOnly);
    const pointer = matchMedia("(pointer: fine)").matches;
    if (!readOnly && pointer && document.activeElement === document.body) writing.view.focus();
  };
  const showNotice = (status: Status): void => {
    const content = isClosed(replica) ? null : noticeOf(replica, writing, status);
    const said = content?.[0]?.textContent ?? "";
    if (said === noticed) return; // whoever is on one of its buttons keeps it
    noticed = said;
    notice.hidden = !content;
    notice.replaceChildren(...(content ?? []));
  };
  replica.watch(draw);
  draw();
}

/** What is said at more length, and what can be done about it. */
function noticeOf(replica: Replica, writing: Editor, status: Status): HTMLElement[] | null {
  const signIn = h("a", { class: "quiet", href: signInAddress() }, t.signIn);
  switch (status.kind) {
    case "unstored":
      return [h("p", {}, t.unstoredDetail), copyButton(writing)];
    case "signedOut":
      return [h("p", {}, t.signedOut), signIn];
    case "reading":
      return status.edits > 0 ? [h("p", {}, t.kept(status.edits)), copyButton(writing)] : null;
    case "stopped": {
      const { code, reason } = status.why;
      const said = code === DELETED ? t.deleted : code === NOT_SHARED ? t.unshared : t.readOnly(reason || t.refused);
      const text = h("p", {}, [said, ...(status.edits > 0 ? [t.keptEdits(status.edits)] : [])].join(" "));
      const restore = h("button", { class: "quiet", onclick: () => void bringBack(replica) }, t.restore);
      const mayRestore = code === DELETED && (replica.role === null || replica.role === "owner");
      return [text, copyButton(writing), ...(mayRestore ? [restore] : []), ...(code === NOT_SHARED && !account() ? [signIn] : [])];
    }
    default:
      return null;
  }
}

/** In the place of a document that is closed to us: why, and what to do. */
function showClosed(replica: Replica, page: HTMLElement): void {
  let closed: HTMLElement | null = null;
  const draw = (): void => {
    if (isClosed(replica) === (closed !== null)) return;
    closed?.remove();
    closed = null;
    page.hidden = isClosed(replica);
    document.body.classList.toggle("closed", page.hidden);
    if (!page.hidden) return;
    const first = replica.status.kind === "signedOut";
    document.title = `${first ? t.signInFirst : t.closed} · ${t.product}`;
    const hint = h("p", {}, first ? t.signInFirstHint : t.closedUnknown);
    const ways = h("p", { class: "ways" });
    const retry = h("button", { class: "quiet", onclick: () => void comeBack(replica) }, t.tryAgain);
    const title = h("h1", { tabindex: "-1" }, first ? t.signInFirst : t.closed);
    closed = h("main", { class: "page" }, title, hint, ways);
    page.after(closed);
    title.focus();
    void meet().then(() => {
      const mine = account();
      if (!first) hint.textContent = mine ? t.closedTo(mine.email ?? mine.name) : t.closedGuest;
      const kind = mine ? "quiet" : "primary";
      ways.replaceChildren(h("a", { class: kind, href: signInAddress() }, mine ? t.signInOther : t.signIn), retry);
    });
  };
  replica.watch(draw);
}

/** The way into the history and out again, for those who may read it. */
function showPast(replica: Replica, writing: Editor, button: HTMLButtonElement, bar: HTMLElement, under: HTMLElement[]): void {
  let panel: { close(): void } | null = null;
  let opening = false;
  const allowed = (): boolean => replica.role !== null && mayWrite(replica.role) && !isClosed(replica);
  const draw = (): void => {
    button.hidden = !allowed();
    button.setAttribute("aria-expanded", String(panel !== null));
    if (button.hidden) panel?.close();
  };
  const open = async (event: MouseEvent): Promise<void> => {
    if (panel) return panel.close();
    if (opening) return;
    opening = true;
    const byKey = event.detail === 0;
    try {
      const history = await import("./history");
      panel = history.open(replica, bar, under, () => {
        panel = null;
        draw();
        // Back to the text, and on a phone without its keyboard.
        if (byKey) button.focus();
        else if (replica.writable && matchMedia("(pointer: fine)").matches) writing.view.focus();
      });
      draw();
    } catch {
      toast(t.unreachable); // the page's files are asked for once more at the next click
    } finally {
      opening = false;
    }
  };
  button.addEventListener("click", (event) => void open(event));
  replica.watch(draw);
  draw();
}

/** Dials again if the server said stop and would not say it now. */
async function comeBack(replica: Replica): Promise<void> {
  const { why } = replica;
  if (why?.code !== SIGNED_OUT && why?.code !== NOT_SHARED) return;
  await meet(true);
  // As a guest, what was written as somebody would be sent as nobody.
  if (why.code === SIGNED_OUT && replica.role !== null && !account()) return;
  await replica.look();
  if (replica.role !== null) replica.connect();
}

/** Copies what is on the screen, which may be more than the doc took. */
function copyButton({ view }: Editor): HTMLElement {
  const button = h("button", { class: "quiet" }, t.copy);
  const byHand = (): void => {
    view.focus();
    view.dispatch({ selection: { anchor: 0, head: view.state.doc.length } });
    toast(t.selected);
  };
  button.addEventListener("click", () => {
    // Browsers hand out the clipboard only over HTTPS and on this machine.
    if (!("clipboard" in navigator)) byHand();
    else navigator.clipboard.writeText(view.state.doc.toString()).then(() => (button.textContent = t.copied), byHand);
  });
  return button;
}

async function bringBack(replica: Replica): Promise<void> {
  try {
    const { title, role } = await api.restore(replica.name);
    replica.learnOf(title, role);
    replica.connect();
  } catch (error) {
    toast(error instanceof Refused ? t.failed(error.message) : t.unreachable);
  }
}

