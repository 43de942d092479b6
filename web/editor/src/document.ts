/** One document: its title, who is here, its status, its text. */

import { EditorView } from "@codemirror/view";
import { api, Refused } from "./api";
import { selectionOf } from "./carets";
import { editor, type Editor } from "./editor";
import { announce, h, icon, toast } from "./element";
import { avatar, myself, personOf, watchMe, type Person } from "./person";
import { Replica, type Status } from "./replica";
import { t } from "./strings";

const DELETED = 4404;
const FACES_LIMIT = 5;
// "Saved" returns when the typing rests; it is never shown early, only late.
const REST_MS = 500;

export function open(name: string): void {
  const replica = new Replica(name);
  const home = h("a", { class: "home", href: "/", "aria-label": t.home, title: t.home }, icon("M12 4l-6 6 6 6"));
  const faces = h("ul", { class: "faces", "aria-label": t.people });
  const chip = h("span", { class: "status", id: "status" });
  const notice = h("div", { class: "notice", role: "status", hidden: true });
  const page = h("main", { class: "page" });
  const heading = h("h1", { class: "hidden" }); // the title again, for who moves by headings
  document.body.className = "writing";
  document.body.append(
    h("header", { class: "bar" }, heading, home, titleField(name, replica, heading), chip, h("div", { class: "people" }, faces, ...myself())),
    notice,
    page,
  );

  const writing = editor(page, replica);
  writing.hint(t.opening);
  watchMe((person) => replica.awareness.setLocalStateField("user", person));
  showPeople(replica, writing, faces);
  showStatus(replica, writing, chip, notice);
  void replica.opened.then(() => {
    if (matchMedia("(pointer: fine)").matches && document.activeElement === document.body) writing.view.focus();
  });
  // The empty part of the page belongs to the text.
  page.addEventListener("mousedown", (event) => {
    if (event.target !== page) return;
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
  let title = "";
  const show = (given: string): void => {
    title = given;
    if (document.activeElement !== field) field.value = title;
    heading.textContent = title || t.untitled;
    document.title = `${title || name} · ${t.product}`;
    replica.remember(given);
  };
  const read = async (): Promise<void> => {
    try {
      show((await api.get(name)).title);
    } catch {
      // what is shown stays
    }
  };
  const write = async (): Promise<void> => {
    const wanted = field.value.trim();
    if (wanted === title) return;
    try {
      let saved;
      try {
        saved = await api.rename(name, wanted);
      } catch (error) {
        if (!(error instanceof Refused && error.status === 404)) throw error;
        saved = await api.create({ name, title: wanted });
      }
      show(saved.title);
      replica.awareness.setLocalStateField("titled", Date.now());
    } catch (error) {
      field.value = title;
      toast(error instanceof Refused ? t.failed(error.message) : t.unreachable);
    }
  };
  field.addEventListener("change", () => void write());
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") field.value = title;
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
    if (news) void read();
  });
  heading.textContent = t.untitled;
  document.title = `${name} · ${t.product}`;
  void replica.opened.then(async () => {
    const kept = await replica.title();
    if (title === "" && kept) show(kept);
  });
  let live = false;
  replica.watch(() => {
    const was = live;
    live = replica.live;
    if (live && !was) void read(); // it may have changed while we were away
  });
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

function words(status: Status): string {
  switch (status.kind) {
    case "offline":
      return t.offline(status.edits);
    case "unstored":
      return t.unstored(status.edits);
    case "stopped":
      return status.why.code === DELETED ? t.deletedStatus : t.readOnlyStatus;
    default:
      return t[status.kind];
  }
}

function showStatus(replica: Replica, writing: Editor, chip: HTMLElement, notice: HTMLElement): void {
  let shown: Status["kind"] | null = null;
  let settledAt = 0;
  let timer = 0;
  const draw = (): void => {
    const { status } = replica;
    clearTimeout(timer);
    if (status.kind === "saving") settledAt = Date.now() + REST_MS;
    if (status.kind === "saved" && shown === "saving" && Date.now() < settledAt) {
      timer = window.setTimeout(draw, settledAt - Date.now());
      return;
    }
    const said = words(status);
    if (chip.textContent !== said) chip.replaceChildren(h("i", { "aria-hidden": "true" }), h("span", {}, said));
    chip.dataset.kind = status.kind;
    if (status.kind === shown) return;
    const away = shown === "offline" || shown === "unstored" || shown === "stopped";
    shown = status.kind;
    if (shown === "offline") announce(said); // the other two speak through the notice
    else if (shown === "saved" && away) announce(t.back);
    writing.lock(shown === "stopped");
    if (shown === "saved" || shown === "saving" || shown === "offline") writing.hint(t.placeholder);
    showNotice(status);
  };
  const showNotice = (status: Status): void => {
    notice.hidden = status.kind !== "stopped" && status.kind !== "unstored";
    if (status.kind === "unstored") notice.replaceChildren(h("p", {}, t.unstoredDetail), copyButton(writing));
    if (status.kind !== "stopped") return;
    const deleted = status.why.code === DELETED;
    const reason = status.why.reason || t.refused;
    const lines = [deleted ? t.deleted : t.readOnly(reason), ...(status.edits > 0 ? [t.keptEdits(status.edits)] : [])];
    const restore = h("button", { class: "quiet", onclick: () => void bringBack(replica) }, t.restore);
    notice.replaceChildren(h("p", {}, lines.join(" ")), copyButton(writing), ...(deleted ? [restore] : []));
  };
  replica.watch(draw);
  draw();
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
    await api.restore(replica.name);
    replica.connect();
  } catch (error) {
    toast(error instanceof Refused ? t.failed(error.message) : t.unreachable);
  }
}

