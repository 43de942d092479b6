/** One document: its title, who is here, its status, its text. */

import { api, Refused, signInAddress } from "./api";
import { asking } from "./asking";
import type { Away } from "./away";
import { ANOTHER } from "./connection";
import { downloadButton, saveButton } from "./copy";
import { editor, type Editor } from "./editor";
import { announce, h, icon, toast } from "./element";
import { showPeople } from "./people";
import "./people.css";
import { account, meet, myself, watchMe } from "./person";
import { DELETED, NOT_SHARED, Replica, SIGNED_OUT, type Status } from "./replica";
import { t } from "./strings";

// "Saved" returns when the typing rests; it is never shown early, only late.
const REST_MS = 500;
const KEYS = "M7.4 7.3a2.6 2.6 0 1 1 4.1 2.1c-1 .7-1.5 1.2-1.5 2.4M10 14.6v.2";
const SHARE = "M8 7.5a2.8 2.8 0 1 0 0-.1M2.5 16.5c.3-3.4 2.5-5 5.5-5s5.2 1.6 5.5 5M15.5 6v6M12.5 9h6";
const DOWNLOAD = "M10 3.5v8.5M6.5 8.8L10 12.3l3.5-3.5M4 15.5h12";
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
  const share = h("button", { class: "to-share", hidden: true, title: t.share, "aria-haspopup": "dialog" }, icon(SHARE), h("span", {}, t.share));
  const keys = h("button", { class: "tool keys", "aria-label": t.shortcuts.title, title: t.shortcuts.title, "aria-haspopup": "dialog", "aria-keyshortcuts": "Control+/ Meta+/" }, icon(KEYS));
  const saving = h("button", { class: "tool to-file", hidden: true, title: t.downloads.button, "aria-label": t.downloads.button, "aria-haspopup": "dialog", "aria-expanded": "false" }, icon(DOWNLOAD));
  const people = h("div", { class: "people" }, faces, past, saving, share, keys, ...myself());
  const bar = h("header", { class: "bar" }, heading, home, titleField(name, replica, heading), chip, people);
  document.body.className = "writing";
  const tools = h("div", { class: "tools" });
  const shelf = h("div", { class: "shelf" });
  document.body.append(bar, tools, notice, page, shelf);

  const writing = editor(page, replica);
  showTools(replica, writing, tools, bar);
  writing.hint(t.opening);
  watchMe((person) => replica.awareness.setLocalStateField("user", person));
  showPeople(replica, writing, faces, shelf);
  showAway(replica, writing, shelf);
  showStatus(replica, writing, chip, notice);
  showClosed(replica, page);
  const seeThen = showPast(replica, writing, past, bar, [tools, notice, page, shelf]);
  asking(replica, writing.view, page, seeThen);
  showShare(replica, share);
  showDownloads(replica, saving);
  showShortcuts(keys);
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

/** The tools come when it is known what one may do: by then one can write, and they are in nobody's way. */
function showTools(replica: Replica, writing: Editor, tools: HTMLElement, bar: HTMLElement): void {
  let asked = false;
  const look = (): void => {
    if (asked || replica.role === null || replica.status.kind === "connecting") return;
    asked = true;
    setTimeout(() => {
      import("./toolbar").then(
        ({ toolbar }) => toolbar(tools, bar, writing),
        () => (tools.hidden = true), // one can write without
      );
    });
  };
  replica.watch(look);
  look();
}

/** The title is kept by the server beside the text; others learn of a new one through awareness. */
function titleField(name: string, replica: Replica, heading: HTMLElement): HTMLElement {
  const field = h("input", {
    class: "title",
    dir: "auto",
    lang: "",
    "aria-label": t.title,
    placeholder: t.untitled,
    autocomplete: "off",
    maxlength: 200,
  });
  let known = "";
  const show = (): void => {
    const { title } = replica;
    const now = JSON.stringify([title, replica.writable, isClosed(replica)]);
    if (now === known) return; // the status changes with every key, and this is felt
    known = now;
    if (document.activeElement !== field) field.value = title;
    else known = ""; // once the field is left
    field.readOnly = !replica.writable;
    heading.textContent = title || t.untitled;
    if (!isClosed(replica)) document.title = `${title || name} · ${t.product}`;
  };
  const write = async (): Promise<void> => {
    const wanted = field.value.trim();
    if (wanted === replica.title || field.readOnly) return;
    try {
      try {
        replica.learnOf(await api.rename(name, wanted));
      } catch (error) {
        if (!(error instanceof Refused && error.status === 404)) throw error;
        await replica.make(wanted);
      }
      replica.awareness.setLocalStateField("titled", Date.now());
    } catch (error) {
      if (document.activeElement !== field) field.value = replica.title;
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

/** What was done apart, told when the two have met again. */
function showAway(replica: Replica, writing: Editor, shelf: HTMLElement): void {
  let away: Promise<Away> | null = null;
  replica.watchMeetings((meeting) => {
    const { theirs } = meeting;
    if (theirs.came.length + theirs.gone.length === 0) return;
    away ??= import("./away").then(({ Away }) => new Away(replica, writing, shelf));
    away.then(
      (note) => note.take(meeting),
      () => (away = null), // the next meeting asks for the page's files once more
    );
  });
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
  const text = (): string => writing.view.state.doc.toString();
  const download = downloadButton(() => replica.title || replica.name, text);
  const save = saveButton(replica, text);
  const signIn = h("a", { class: "quiet", href: signInAddress() }, t.signIn);
  switch (status.kind) {
    case "unstored":
      return [h("p", {}, t.unstoredDetail), copyButton(writing), download];
    case "signedOut":
      return [h("p", {}, t.signedOut), signIn];
    case "reading":
      return status.edits > 0 ? [h("p", {}, t.kept(status.edits)), save, download, copyButton(writing)] : null;
    case "stopped": {
      const { code, reason } = status.why;
      const known: { [code: number]: string } = { [DELETED]: t.deleted, [NOT_SHARED]: t.unshared, [ANOTHER]: t.keep.another };
      const said = known[code] ?? t.readOnly(reason || t.refused);
      const other = h("button", { class: "quiet", onclick: () => void openOther(replica) }, t.keep.openOther);
      const lines = h("p", {}, [said, ...(status.edits > 0 ? [t.keptEdits(status.edits)] : [])].join(" "));
      const restore = h("button", { class: "quiet", onclick: () => void bringBack(replica) }, t.restore);
      const mayRestore = code === DELETED && (replica.role === null || replica.role === "owner");
      const saves = status.edits > 0 || code === DELETED || code === ANOTHER;
      return [
        lines,
        ...(mayRestore ? [restore] : []),
        ...(saves ? [save] : []),
        download,
        copyButton(writing),
        ...(code === ANOTHER ? [other] : []),
        ...(code === NOT_SHARED && !account() ? [signIn] : []),
      ];
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

/** The way into the history and out again, for those who may read it; returns a way to an entry of it. */
function showPast(replica: Replica, writing: Editor, button: HTMLButtonElement, bar: HTMLElement, under: HTMLElement[]): (seq: number) => void {
  let panel: { close(): void } | null = null;
  let opening = false;
  const allowed = (): boolean => replica.historian && !isClosed(replica);
  const draw = (): void => {
    button.hidden = !allowed();
    button.setAttribute("aria-expanded", String(panel !== null));
    if (button.hidden) panel?.close();
  };
  const open = async (byKey: boolean, seq: number | null): Promise<void> => {
    if (opening) return;
    opening = true;
    try {
      const history = await import("./history");
      panel = history.open(replica, bar, under, seq, () => {
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
  button.addEventListener("click", (event) => (panel ? panel.close() : void open(event.detail === 0, null)));
  replica.watch(draw);
  draw();
  return (seq) => void open(false, seq);
}

/** The way to the dialog that says who else may read and write this. */
function showDownloads(replica: Replica, button: HTMLButtonElement): void {
  button.addEventListener("click", () => {
    import("./download").then(
      ({ toggle }) => toggle(replica, button),
      () => toast(t.unreachable), // the page's files are asked for once more at the next click
    );
  });
  const draw = (): void => void (button.hidden = replica.role === null || isClosed(replica));
  replica.watch(draw);
  draw();
}

function showShare(replica: Replica, button: HTMLButtonElement): void {
  let dialog: { update(): void; close(): void } | null = null;
  const draw = (): void => {
    button.hidden = replica.role === null || isClosed(replica);
    if (button.hidden) dialog?.close();
    else dialog?.update();
  };
  button.addEventListener("click", () => {
    import("./share").then(
      ({ open }) => (dialog ??= open(replica, () => (dialog = null))),
      () => toast(t.unreachable), // the page's files are asked for once more at the next click
    );
  });
  replica.watch(draw);
  draw();
}

/** The way to the sheet of shortcuts; its key goes before what an editor would do with it. */
function showShortcuts(button: HTMLButtonElement): void {
  let sheet: HTMLDialogElement | null = null;
  const show = (): void => {
    import("./shortcuts").then(
      ({ open }) => (sheet ??= open(() => (sheet = null))),
      () => toast(t.unreachable),
    );
  };
  button.addEventListener("click", show);
  addEventListener(
    "keydown",
    (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.altKey || event.key !== "/") return;
      event.preventDefault();
      event.stopPropagation();
      if (sheet) sheet.close();
      else if (!document.querySelector("dialog[open]")) show();
    },
    { capture: true },
  );
}

/** Dials again if the server said stop and would not say it now. */
async function comeBack(replica: Replica): Promise<void> {
  const code = replica.why?.code;
  if (code === DELETED) return comeBackTo(replica);
  if (code !== SIGNED_OUT && code !== NOT_SHARED) return;
  await meet(true);
  // As a guest, what was written as somebody would be sent as nobody.
  if (code === SIGNED_OUT && replica.role !== null && !account()) return;
  await replica.look();
  // What the server does not know yet, who signs in may make.
  if (replica.role !== null || (code === SIGNED_OUT && account())) replica.connect();
}

/** Somebody may have brought it back. */
async function comeBackTo(replica: Replica): Promise<void> {
  const known = await api.get(replica.name).catch(() => null);
  if (known === null) return;
  replica.learnOf(known);
  replica.connect();
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

/** Leaves our copy for what its name means now; edits of ours in it are warned of once. */
async function openOther(replica: Replica): Promise<void> {
  const { edits } = replica.status as { edits: number };
  if (edits > 0) return toast(t.keep.loses(edits), { label: t.keep.openStill, run: () => void leave() });
  await leave();
  async function leave(): Promise<void> {
    await replica.letGo();
    location.reload();
  }
}

async function bringBack(replica: Replica): Promise<void> {
  try {
    replica.learnOf(await api.restore(replica.name));
    replica.connect();
  } catch (error) {
    toast(error instanceof Refused ? t.failed(error.message) : t.unreachable);
  }
}

