/** What comes before the documents: signing in, joining with an invitation, following a share link. */

import { address, api, Refused, type Me } from "./api";
import { h } from "./element";
import mark from "./icon.svg";
import { account, meet, recognise } from "./person";
import { t } from "./strings";

/** An e-mail address and a password, or the identity provider; then back to where one came from. */
export function signIn(): void {
  const next = nextOf(new URLSearchParams(location.search));
  const email = field(t.yourEmail, { type: "email", autocomplete: "username", required: true, inputmode: "email" });
  const password = field(t.password, { type: "password", autocomplete: "current-password", required: true });
  const other = h("div", { class: "other", hidden: true });
  const already = h("p", { class: "note", hidden: true });
  const fields = form([email, password], t.signIn, async () => {
    await meet(); // whose answer would be about who we were
    await enter(await api.signIn(email.input.value.trim(), password.input.value), next);
  });
  const help = h("p", { class: "note" }, t.forgotten);
  door(t.signIn, already, other, fields, help);
  email.input.focus();
  void meet().then(() => {
    const mine = account();
    already.hidden = !mine;
    if (mine) already.textContent = t.asYet(mine.email ?? mine.name);
  });
  api.waysIn().then(
    ({ oidc, signup }) => {
      if (oidc) {
        const provider = h("a", { class: "secondary", href: `${oidc}?${new URLSearchParams({ next })}` }, t.signInOidc);
        other.replaceChildren(provider, h("p", { class: "or" }, t.orPassword));
        other.hidden = false;
      }
      if (signup) help.before(h("p", { class: "note" }, t.noAccount, " ", h("a", { href: "/join" }, t.makeAccount)));
    },
    () => undefined, // the form says so, when it is sent
  );
}

/** Makes an account, or sets a new password, by the invitation in the fragment; without one, where all may join. */
export function join(): void {
  addEventListener("hashchange", () => location.reload()); // another invitation was pasted
  const invitation = location.hash.slice(1);
  if (!invitation) return signUp();
  const { email, name } = claimsOf(invitation);
  const who = field(t.yourEmail, { type: "email", autocomplete: "username", readonly: true, value: email });
  const called = field(t.yourName, { autocomplete: "name", maxlength: 100, value: name });
  const password = newPassword();
  const fields = form([...(email ? [who] : []), called, password], t.joinButton, async () => {
    const chosen = called.input.value.trim();
    await enter(await api.join({ invitation, password: password.input.value, ...(chosen && { name: chosen }) }), "/");
  });
  door(t.joinTitle, fields, haveAccount());
  (name ? password : called).input.focus();
}

function signUp(): void {
  const email = field(t.yourEmail, { type: "email", autocomplete: "username", required: true, inputmode: "email" });
  const called = field(t.yourName, { autocomplete: "name", maxlength: 100 });
  const password = newPassword();
  const fields = form([email, called, password], t.signUpButton, async () => {
    const chosen = called.input.value.trim();
    const given = { email: email.input.value.trim(), password: password.input.value };
    await enter(await api.join({ ...given, ...(chosen && { name: chosen }) }), "/");
  });
  api.waysIn().then(
    ({ signup }) => {
      door(signup ? t.signUpTitle : t.joinTitle, signup ? fields : h("p", {}, t.joinClosed), haveAccount());
      if (signup) email.input.focus();
    },
    (error: unknown) => door(t.joinTitle, h("p", { role: "alert" }, reasonOf(error)), again()),
  );
}

/** Opens the share link in the fragment, and asks for its password only if it has one. */
export function follow(): void {
  addEventListener("hashchange", () => location.reload());
  const secret = location.hash.slice(1);
  if (!secret) return void door(t.linkBroken, h("p", {}, t.linkIncomplete), home());
  const open = async (password?: string): Promise<void> => {
    location.replace(address((await api.openLink(secret, password)).document));
  };
  const opening = door(t.linkTitle);
  open().catch((error: unknown) => {
    opening.remove();
    if (!isAboutPassword(error)) {
      const gone = error instanceof Refused && !error.passing;
      return door(t.linkBroken, h("p", { role: "alert" }, reasonOf(error)), gone ? home() : again());
    }
    const password = field(t.password, { type: "password", autocomplete: "off", required: true }, t.linkPasswordHint);
    const fields = form([password], t.openDocument, async () => {
      await open(password.input.value).catch((refusal: unknown) => {
        throw isAboutPassword(refusal) ? new Error(t.linkWrong) : refusal;
      });
    });
    door(t.linkPassword, fields);
    password.input.focus();
    return undefined;
  });
}

const isAboutPassword = (error: unknown): boolean => error instanceof Refused && error.code === "link-password";

function door(title: string, ...content: Node[]): HTMLElement {
  document.title = `${title} · ${t.product}`;
  document.body.className = "entering";
  const main = h("main", { class: "page" }, h("h1", {}, title), ...content);
  const brand = h("a", { class: "brand", href: "/" }, h("img", { src: mark, alt: "" }), t.product);
  document.body.replaceChildren(h("header", { class: "bar" }, brand), main);
  return main;
}

interface Field {
  box: HTMLElement;
  input: HTMLInputElement;
}

let fields = 0;

function field(label: string, props: Record<string, string | number | boolean>, hint = ""): Field {
  const id = `field-${++fields}`;
  const input = h("input", { id, spellcheck: "false", ...props });
  const box = h("div", { class: "field" }, h("label", { for: id }, label), input);
  if (props.type === "password") box.append(revealer(input));
  if (hint) {
    box.append(h("p", { class: "hint", id: `${id}-hint` }, hint));
    input.setAttribute("aria-describedby", `${id}-hint`);
  }
  return { box, input };
}

const newPassword = (): Field =>
  field(t.newPassword, { type: "password", autocomplete: "new-password", required: true }, t.newPasswordHint);

/** What one typed is better looked at than typed twice. */
function revealer(input: HTMLInputElement): HTMLElement {
  const button = h("button", { class: "quiet reveal", type: "button", "aria-pressed": "false" }, t.show);
  button.addEventListener("click", () => {
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    button.textContent = shown ? t.hide : t.show;
    button.setAttribute("aria-pressed", String(shown));
  });
  return button;
}

/** A form that is sent once at a time, and says what is wrong where it is seen and read aloud. */
function form(parts: Field[], label: string, send: () => Promise<void>): HTMLFormElement {
  const button = h("button", { class: "primary" }, label);
  const wrong = h("p", { class: "wrong", role: "alert" });
  const last = (parts.at(-1) as Field).input;
  const element = h("form", {}, ...parts.map(({ box }) => box), wrong, button);
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    wrong.replaceChildren();
    send().catch((error: unknown) => {
      button.disabled = false;
      wrong.textContent = reasonOf(error);
      last.focus();
      last.select();
    });
  });
  return element;
}

/** The address that was asked for before, if it is one of ours: nobody may send people elsewhere through here. */
function nextOf(query: URLSearchParams): string {
  const next = query.get("next") ?? "/";
  // Browsers take "\" for "/", and drop tabs and newlines: "/\example.org" is a path of another site.
  return /^\/(?![/\\])[^\\\u0000-\u0020\u007f]{0,2000}$/.test(next) ? next : "/";
}

/** What an invitation says, for showing it only: the server reads it for itself. */
function claimsOf(invitation: string): { email: string; name: string } {
  try {
    const payload = atob((invitation.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/"));
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(payload, (c) => c.charCodeAt(0)))) as object;
    const { email, name } = claims as Record<string, unknown>;
    return { email: typeof email === "string" ? email : "", name: typeof name === "string" ? name : "" };
  } catch {
    return { email: "", name: "" };
  }
}

async function enter(me: Me, next: string): Promise<void> {
  await recognise(me);
  location.replace(next);
}

function reasonOf(error: unknown): string {
  if (error instanceof Refused) return t.sentence(error.message);
  return error instanceof TypeError ? t.unreachable : (error as Error).message;
}

const haveAccount = (): Node => h("p", { class: "note" }, t.haveAccount, " ", h("a", { href: "/sign-in" }, t.signIn));
const home = (): Node => h("p", {}, h("a", { class: "quiet", href: "/" }, t.home));
const again = (): Node => h("p", {}, h("button", { class: "primary", onclick: () => location.reload() }, t.tryAgain));
