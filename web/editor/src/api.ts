/** The REST interface, as far as the page needs it. */

/** What one may do with a document; each includes the ones before it. */
export const ROLES = ["viewer", "commenter", "editor", "owner"] as const;
export type Role = (typeof ROLES)[number];

export const mayWrite = (role: Role): boolean => role === "editor" || role === "owner";

export interface Listed {
  name: string;
  title: string;
  created_at: string;
  updated_at: string;
  head: number;
  role: Role;
  /** Changes when it is reset. */
  epoch: number;
  /** Of a search: some of the text, and where in it the hits begin and end, in code points. */
  snippet?: { text: string; marks: [number, number][] } | null;
  /** Whether one may read its history; null in a list. */
  history: boolean | null;
}

export const SORTS = ["changed", "created", "title"] as const;
export type Sort = (typeof SORTS)[number];

/** Whom the server takes this browser for. */
export interface Me {
  actor: string;
  name: string;
  email: string | null;
  signed_in: boolean;
  /** A token's name comes with the token. */
  how: "guest" | "account" | "token";
}

export interface WaysIn {
  /** Whether everybody may make an account. */
  signup: boolean;
  /** Where the identity provider is reached, if there is one. */
  oidc: string | null;
}

/** The server answered, and said no. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
  ) {
    super(detail);
  }

  /** Asked again, the server may say something else. */
  get passing(): boolean {
    return this.status >= 500 || this.status === 429;
  }
}

const PATIENCE_MS = 10_000;

/** Raises `Refused` for an answer that is an error, and `TypeError` when there is none until `signal`. */
export async function request<T>(
  method: string,
  path: string,
  body?: unknown,
  signal = AbortSignal.timeout(PATIENCE_MS),
): Promise<T> {
  const init: RequestInit = { method, cache: "no-store", signal };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "content-type": "application/json" };
  }
  const answer = await fetch(`/api${path}`, init).catch((cause: unknown) => {
    throw new TypeError("no answer", { cause });
  });
  if (!answer.ok) {
    const problem = (await answer.json().catch(() => ({}))) as { code?: string; detail?: string; title?: string };
    const detail = problem.detail ?? problem.title ?? answer.statusText;
    throw new Refused(answer.status, problem.code ?? "unknown", detail);
  }
  return (answer.status === 204 ? undefined : await answer.json().catch(() => undefined)) as T;
}

export const at = (name: string): string => `/documents/${encodeURIComponent(name)}`;

export const api = {
  list: (query: string, cursor: string | null, sort: Sort = "changed") =>
    request<{ documents: Listed[]; next: string | null }>(
      "GET",
      `/documents?${new URLSearchParams({ limit: "50", sort, ...(query && { q: query }), ...(cursor && { cursor }) })}`,
    ),
  create: (document: { name?: string; title?: string; text?: string }) => request<Listed>("POST", "/documents", document),
  copy: (name: string, title: string) => request<Listed>("POST", `${at(name)}/copies`, { title }),
  get: (name: string) => request<Listed>("GET", at(name)),
  rename: (name: string, title: string) => request<Listed>("PATCH", at(name), { title }),
  remove: (name: string) => request<void>("DELETE", at(name)),
  restore: (name: string) => request<Listed>("PATCH", at(name), { deleted: false }),

  openLink: (secret: string, password?: string) =>
    request<{ document: string; role: Role }>("POST", "/links/open", { secret, ...(password !== undefined && { password }) }),

  me: () => request<Me>("GET", "/me"),
  nameMe: (name: string) => request<Me>("PATCH", "/me", { name }),
  waysIn: () => request<WaysIn>("GET", "/sign-in"),
  signIn: (email: string, password: string) => request<Me>("POST", "/session", { email, password }),
  signOut: () => request<void>("DELETE", "/session"),
  join: (account: { invitation?: string; email?: string; password: string; name?: string }) =>
    request<Me>("POST", "/accounts", account),
};

/** Where a document is edited. Slashes in a name stay slashes, unless the browser would fold them away. */
export function address(name: string): string {
  const folded = name.split("/").some((part) => part === "" || part === "." || part === "..");
  const encoded = encodeURIComponent(name);
  return `/d/${folded ? encoded : encoded.replaceAll("%2F", "/")}`;
}

/** Where one signs in, to come back to this page. */
export function signInAddress(): string {
  return `/sign-in?${new URLSearchParams({ next: location.pathname })}`;
}
