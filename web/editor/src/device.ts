/** What of which documents is on this device: what is not sent yet, what it takes, and the way to remove it. */

import { address } from "./api";
import "./device.css";
import { announce, h, icon, toast } from "./element";
import mark from "./icon.svg";
import { forget, kept, remove, type Kept } from "./local";
import { myself } from "./person";
import { t } from "./strings";

// The server chose this name, and nobody wants to read it.
const CHOSEN = /^[\w-]{12}$/;
const BIN = "M4 6h12M8 6V4h4v2M6 6l1 11h6l1-11";

const called = ({ name, title }: Kept): string => title || (CHOSEN.test(name) ? t.untitled : name);

/** The page about it. */
export function device(): void {
  document.title = `${t.device.title} · ${t.product}`;
  document.body.className = "listing";
  const rows = h("ul", { class: "rows" });
  const usage = h("div", { class: "usage" });
  const all = h("button", { class: "quiet" }, t.device.removeAll);
  all.addEventListener("click", () => void removeAll());
  const home = h("a", { class: "home", href: "/", "aria-label": t.home, title: t.home }, icon("M12 4l-6 6 6 6"));
  const brand = h("a", { class: "brand", href: "/" }, h("img", { src: mark, alt: "" }), t.product);
  document.body.append(
    h("header", { class: "bar" }, home, brand, h("div", { class: "people" }, ...myself())),
    h("main", { class: "page" }, h("div", { class: "head" }, h("h1", {}, t.device.title)), h("p", { class: "note" }, t.device.hint), rows, usage),
  );
  const load = async (): Promise<void> => {
    const documents = await kept().catch(() => []);
    const left = rows.contains(document.activeElement);
    rows.replaceChildren(...documents.map((one) => row(one, load)));
    all.hidden = documents.length === 0;
    usage.replaceChildren(...(documents.length === 0 ? [h("p", { class: "note" }, t.device.nothing)] : []), ...(await space()), all);
    if (left) (rows.querySelector<HTMLElement>("button") ?? all).focus();
  };
  const removeAll = async (): Promise<void> => {
    const unsent = (await kept()).reduce((n, one) => n + one.unsent, 0);
    if (unsent > 0 && !(await sure(t.device.warnAll(unsent)))) return;
    await forget();
    announce(t.device.removedAll);
    await load();
  };
  // Back from a document, or another tab has been at it.
  addEventListener("pageshow", (event) => event.persisted && void load());
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && void load());
  void load();
}

/** The documents of this device as rows of a list, latest first, those that match `query`. */
export async function rowsOf(query: string): Promise<HTMLElement[]> {
  const wanted = query.toLowerCase();
  const documents = await kept().catch(() => []);
  return documents.filter((one) => called(one).toLowerCase().includes(wanted)).map((one) => h("li", { class: "row kept" }, link(one)));
}

function link(one: Kept, sized = false): HTMLElement {
  const opened = new Date(one.opened);
  const when = one.opened > 0 ? h("time", { datetime: opened.toISOString(), title: opened.toLocaleString() }, t.ago(opened)) : null;
  const unsent = one.unsent > 0 ? h("span", { class: "unsent" }, t.device.unsent(one.unsent)) : null;
  return h("a", { href: address(one.name) }, h("span", { class: "name" }, called(one)), unsent, when, sized ? h("span", { class: "size" }, t.device.size(one.bytes)) : null);
}

function row(one: Kept, reload: () => Promise<void>): HTMLElement {
  const drop = h("button", { class: "tool", "aria-label": t.device.remove(called(one)), title: t.device.removeShort }, icon(BIN));
  drop.addEventListener("click", () => void run());
  const run = async (): Promise<void> => {
    // A tab may have left edits here since the list was made.
    const { unsent } = (await kept()).find(({ name }) => name === one.name) ?? one;
    if (unsent > 0 && !(await sure(t.device.warn(called(one), unsent)))) return;
    await remove(one.name);
    toast(t.device.removed(called(one)));
    await reload();
  };
  return h("li", { class: "row kept" }, link(one, true), drop);
}

/** Asks before what is nowhere else is thrown away. */
function sure(warning: string): Promise<boolean> {
  return new Promise((resolve) => {
    const answer = (yes: boolean): void => {
      resolve(yes);
      dialog.close();
    };
    const dialog = h(
      "dialog",
      { class: "ask", "aria-label": warning, onclose: () => (dialog.remove(), resolve(false)) },
      h("p", {}, warning),
      h("div", { class: "ways" }, h("button", { class: "primary", onclick: () => answer(false) }, t.cancel), h("button", { class: "quiet", onclick: () => answer(true) }, t.device.still)),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** How much room it takes, and whether the browser has promised to leave it alone. */
async function space(): Promise<HTMLElement[]> {
  // Over plain HTTP from elsewhere a browser tells nothing of its storage.
  const storage = navigator.storage as StorageManager | undefined;
  if (!storage?.estimate) return [];
  const { usage = 0, quota = 0 } = await storage.estimate();
  const lasting = h("p", { role: "status" }, (await storage.persisted()) ? t.device.lasting : t.device.fleeting);
  const ask = h("button", { class: "quiet", hidden: lasting.textContent === t.device.lasting }, t.device.ask);
  ask.addEventListener("click", () => {
    ask.disabled = true;
    void storage.persist().then((agreed) => {
      lasting.textContent = agreed ? t.device.lasting : t.device.refused;
      ask.hidden = true;
    });
  });
  return [h("p", {}, t.device.usage(t.device.size(usage), t.device.size(quota))), h("div", { class: "lasting" }, lasting, ask)];
}
