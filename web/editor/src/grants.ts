/** Who may do what with one document, as the REST interface tells it (web/sharing.py). */

import { at, request, type Role } from "./api";

export interface Member {
  /** An actor's id. */
  person: string;
  /** Empty, of one who has no account here and has written nothing. */
  name: string;
  role: Role;
  /** Whether they may read the history; null leaves it to the role. */
  history: boolean | null;
}

export interface Members {
  members: Member[];
  /** What everybody, and everybody who has signed in, may do on this server anyway. */
  guests: Role | null;
  users: Role | null;
}

export interface Link {
  id: string;
  role: Role;
  history: boolean | null;
  label: string;
  password: boolean;
  expires_at: string | null;
  created_at: string;
  /** How many came through it, and the latest of them. */
  opened: number;
  arrivals: { person: string; name: string; at: string }[];
  /** Only in the answer to its making. */
  url: string | null;
}

export interface NewLink {
  role: Role;
  history: boolean | null;
  label: string;
  password: string | null;
  expires_at: string | null;
}

/** Whether a role comes with the right to read the history, if nothing else is said. */
export const comesWithHistory = (role: Role): boolean => role === "editor" || role === "owner";

/** Every call raises `Refused` when the server says no, and `TypeError` when it says nothing. */
export class Grants {
  private readonly path: string;

  constructor(document: string) {
    this.path = at(document);
  }

  members() {
    return request<Members>("GET", `${this.path}/members`);
  }

  /** `person` may be the e-mail address of an account. */
  set(person: string, role: Role, history: boolean | null) {
    return request<void>("PUT", `${this.path}/members/${encodeURIComponent(person)}`, { role, history });
  }

  remove(person: string) {
    return request<void>("DELETE", `${this.path}/members/${encodeURIComponent(person)}`);
  }

  async links(): Promise<Link[]> {
    return (await request<{ links: Link[] }>("GET", `${this.path}/links`)).links;
  }

  link(wanted: NewLink) {
    return request<Link>("POST", `${this.path}/links`, wanted);
  }

  revoke(id: string) {
    return request<void>("DELETE", `${this.path}/links/${encodeURIComponent(id)}`);
  }
}
