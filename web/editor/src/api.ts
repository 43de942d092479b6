/** The REST interface, as far as the page needs it. */

export interface Listed {
  name: string;
  title: string;
  created_at: string;
  updated_at: string;
  head: number;
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
}

/** Raises `Refused` for an answer that is an error, and `TypeError` when there is no answer. */
async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method, cache: "no-store", signal: AbortSignal.timeout(10_000) };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "content-type": "application/json" };
  }
  const answer = await fetch(`/api/documents${path}`, init).catch((cause: unknown) => {
    throw new TypeError("no answer", { cause });
  });
  if (!answer.ok) {
    const problem = (await answer.json().catch(() => ({}))) as { code?: string; detail?: string; title?: string };
    const detail = problem.detail ?? problem.title ?? answer.statusText;
    throw new Refused(answer.status, problem.code ?? "unknown", detail);
  }
  return (answer.status === 204 ? undefined : await answer.json().catch(() => undefined)) as T;
}

const at = (name: string): string => `/${encodeURIComponent(name)}`;

export const api = {
  list: (query: string, cursor: string | null) =>
    request<{ documents: Listed[]; next: string | null }>(
      "GET",
      `?${new URLSearchParams({ limit: "50", ...(query && { q: query }), ...(cursor && { cursor }) })}`,
    ),
  create: (document: { name?: string; title?: string }) => request<Listed>("POST", "", document),
  get: (name: string) => request<Listed>("GET", at(name)),
  rename: (name: string, title: string) => request<Listed>("PATCH", at(name), { title }),
  remove: (name: string) => request<void>("DELETE", at(name)),
  restore: (name: string) => request<Listed>("PATCH", at(name), { deleted: false }),
};

/** Where a document is edited. Slashes in a name stay slashes, unless the browser would fold them away. */
export function address(name: string): string {
  const folded = name.split("/").some((part) => part === "" || part === "." || part === "..");
  const encoded = encodeURIComponent(name);
  return `/d/${folded ? encoded : encoded.replaceAll("%2F", "/")}`;
}
