/** Every word the page says. Names of people and documents are never put into markup, only into text. */

const edits = (n: number): string => (n === 1 ? "1 edit" : `${n.toLocaleString("en")} edits`);
const count = (n: number): string => n.toLocaleString("en");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const weekday = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long" });
const date = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" });
const people = new Intl.ListFormat("en");
const SAID_LIMIT = 80; // characters of a change that are read out
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const steps: [number, Intl.RelativeTimeFormatUnit][] = [
  [60, "second"],
  [60, "minute"],
  [24, "hour"],
  [7, "day"],
  [4.35, "week"],
  [12, "month"],
  [Infinity, "year"],
];

export const t = {
  product: "Collab",
  home: "All documents",

  // The list
  documents: "Documents",
  create: "New document",
  search: "Search titles",
  empty: "Nothing here yet.",
  emptyHint: "Make a document, send its address to someone, and write together.",
  noMatch: (query: string) => `No title holds “${query}”.`,
  more: "Show more",
  rename: (title: string) => `Rename ${title}`,
  renameShort: "Rename",
  remove: (title: string) => `Delete ${title}`,
  removeShort: "Delete",
  removed: (title: string) => `Deleted “${title}”.`,
  undo: "Undo",
  undone: (title: string) => `“${title}” is back.`,
  newTitle: "New title",
  justNow: "just now",
  unreachable: "The server cannot be reached.",
  onThisDevice: "On this device",
  failed: (detail: string) => `That did not work: ${detail}`,
  /** The server's reasons begin small and have no full stop. */
  sentence: (detail: string) => `${detail.charAt(0).toUpperCase()}${detail.slice(1)}${/[.!?]$/.test(detail) ? "" : "."}`,

  emptyGuest: "Documents that were shared with you are here when you have signed in.",

  // A document
  title: "Title",
  untitled: "Untitled",
  text: "Text of the document, in Markdown",
  placeholder: "Write here. # makes a heading, **bold**, *italic*, - a list.",
  nothingYet: "Nothing has been written here yet.",
  opening: "Opening…",
  you: (name: string) => `You are ${name}. Change your name or ink`,
  yourName: "Your name",
  yourInk: "Your ink",
  person: (name: string) => `${name}: go to their caret`,
  people: "Also here",
  andMore: (n: number) => `and ${n} more`,
  joined: (name: string) => `${name} is here.`,
  left: (name: string) => `${name} left.`,
  someone: "Someone",
  guest: "You are a guest here.",
  signedIn: "Signed in as ",
  signIn: "Sign in",
  signOut: "Sign out",
  signOutKeeps: (n: number) =>
    `${edits(n)} did not reach the server yet. Signed out, they stay on this device until you sign in again.`,
  signOutStill: "Sign out all the same",

  // The status
  saved: "Saved",
  saving: "Saving…",
  connecting: "Connecting…",
  offline: (n: number) => (n === 0 ? "Offline, everything saved" : `Offline, ${edits(n)} on this device`),
  unstored: (n: number) => `Not stored anywhere: ${edits(n)}`,
  reading: "Read only: you may read this document",
  readingOffline: "Offline, read only",
  mayWrite: "You may change this document now.",
  kept: (n: number) => `You may read this document, not change it. ${t.keptEdits(n)}`,
  deletedStatus: "Read only: deleted",
  unsharedStatus: "Read only: not shared with you any more",
  readOnlyStatus: "Read only",
  deleted: "This document was deleted. Its text is still here, to read and to copy.",
  unshared: "This document is not shared with you any more. What you see is the text as it was.",
  readOnly: (reason: string) => `This document is read only: ${reason}`,
  signedOutStatus: (n: number) => (n === 0 ? "Signed out, everything saved" : `Signed out, ${edits(n)} on this device`),
  signedOut: "You are signed out. You can go on: what you write stays on this device, and is sent when you have signed in.",
  refused: "the server refused the connection.",
  broken: "this page has a fault. Copy the text you need, then reload.",
  keptEdits: (n: number) =>
    `${edits(n)} of yours did not reach the server and ${n === 1 ? "stays" : "stay"} on this device.`,
  unstoredDetail: "This browser keeps no copy, and the server cannot be reached. Leave this page open, or copy the text.",
  back: "Back online.",
  copy: "Copy the text",
  copied: "Copied",
  selected: "The text is selected. Copy it with the keyboard.",
  restore: "Bring it back",
  swaggerLicences: "Made with Swagger UI and what it holds: licences",

  // Its history
  history: "History",
  closeHistory: "Close the history",
  versionsList: "Versions",
  pastText: "The text as it was, with what changed",
  timeline: "Moment in the history",
  momentSaid: (when: Date, names: string[]) => `${t.day(when)}, ${t.clock(when)}, ${people.format(names)}`,
  onlyNamed: "Named only",
  nothingNamed: "No version has a name yet. Choose one, and name it.",
  day(when: Date): string {
    const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(when).setHours(0, 0, 0, 0)) / 86_400_000);
    if (days === 0) return "Today";
    if (days === 1) return "Yesterday";
    return when.getFullYear() === new Date().getFullYear() ? weekday.format(when) : date.format(when);
  },
  clock: (when: Date) => clock.format(when),
  span(from: Date, to: Date): string {
    const [start, end] = [clock.format(from), clock.format(to)];
    return start === end ? end : `${start} – ${end}`;
  },
  dayAndSpan: (from: Date, to: Date) => `${t.day(to)}, ${t.span(from, to)}`,
  moment: (when: Date) => `${t.day(when)}, ${t.clock(when)}`,
  plus: (n: number) => `+${count(n)}`,
  minus: (n: number) => `−${count(n)}`,
  statsSaid: (inserted: number, deleted: number) => `${count(inserted)} characters written, ${count(deleted)} deleted`,
  origins: { offline: "written offline", import: "imported", api: "by a program", restore: "restored", undo: "taken back" },
  showWhat: "What to show",
  modes: { text: "Text", changes: "Changes", now: "Against now", two: "Any two" },
  modesSaid: {
    text: "The text as it was",
    changes: "What changed in this version",
    now: "What has changed since this version",
    two: "What lies between this version and another; choose it in the list",
  },
  compareWith: (version: string) => `Compare with ${version}`,
  compareWithShort: "Compare with this one",
  comparedWith: (version: string) => `compared with ${version}`,
  noChanges: "Nothing differs.",
  changePlace: (n: number, of: number, more: boolean) => `${count(n)} of ${count(of)}${more ? "+" : ""}`,
  nextChange: "Next change",
  previousChange: "Previous change",
  changed: (inserted: boolean, name: string, text: string) =>
    `${name} ${inserted ? "wrote" : "deleted"} “${text.length > SAID_LIMIT ? `${text.slice(0, SAID_LIMIT)}…` : text.trim()}”.`,
  byWhom: (name: string, when: Date) => `${name}, ${t.moment(when)}`,
  nameVersion: "Name this version",
  versionName: "Name of this version",
  renameVersion: "Rename",
  unnameVersion: "Remove the name",
  unnamed: (name: string) => `The version is not called “${name}” any more.`,
  save: "Save",
  cancel: "Cancel",
  restoreTitle: (when: string) => `Go back to ${when}?`,
  restoreCounts(inserted: number, deleted: number): string {
    const characters = (n: number): string => (n === 1 ? "1 character" : `${count(n)} characters`);
    const comes = inserted > 0 && `${characters(inserted)} ${inserted === 1 ? "comes" : "come"} back`;
    const goes = deleted > 0 && `${characters(deleted)} ${deleted === 1 ? "goes" : "go"}`;
    return `${[comes, goes].filter(Boolean).join(", ")}.`;
  },
  restoreNothing: "The text is now what it was then. There is nothing to restore.",
  restoreKeeps: "The text as it is now stays in the history, and everyone who is writing keeps their place.",
  restoreMoved: (names: string[]) =>
    `Meanwhile ${names.length > 0 ? people.format(names) : "somebody"} changed the text. As of now:`,
  restoreStill: "Restore all the same",
  restoreButton: "Restore",
  restoreWhat: " this version",
  restored: (when: string) => `The text is again what it was: ${when}.`,
  restoreUndone: "The text is as it was before you restored.",

  // A document that is closed to us
  closed: "This document is not shared with you",
  closedGuest: "If it was shared with your account, sign in to open it. Otherwise ask whoever sent you the address for a link.",
  closedTo: (name: string) => `You are signed in as ${name}. Ask whoever sent you the address to share it with you, or to send you a link.`,
  closedUnknown: "Ask whoever sent you the address for a link.",
  signInFirst: "Sign in to open this document",
  signInFirstHint: "It is only for people who have signed in.",
  signInOther: "Sign in as somebody else",

  // The door
  yourEmail: "E-mail address",
  password: "Password",
  newPassword: "Choose a password",
  newPasswordHint: "At least 10 characters; several words make a good one.",
  show: "Show",
  hide: "Hide",
  orPassword: "or with a password",
  signInOidc: "Sign in with your organisation",
  noAccount: "No account?",
  makeAccount: "Make one",
  haveAccount: "You have an account?",
  asYet: (name: string) => `At present you are signed in as ${name}.`,
  forgotten: "Password forgotten? Whoever runs this server can send you a new invitation; it sets a new one.",
  joinTitle: "Join Collab",
  joinButton: "Join",
  joinClosed: "Accounts are made by invitation here: whoever runs this server can send you one.",
  signUpTitle: "Make an account",
  signUpButton: "Make the account",
  linkTitle: "Opening the link…",
  linkPassword: "This link has a password",
  linkPasswordHint: "Whoever sent you the link knows it.",
  linkWrong: "That is not the password of this link.",
  linkBroken: "This link does not open",
  linkIncomplete: "The address is not complete: copy all of it, also what stands after the #.",
  openDocument: "Open the document",
  tryAgain: "Try again",

  badName: "This address does not name a document.",

  inks: {
    madder: "Madder",
    cobalt: "Cobalt",
    verdigris: "Verdigris",
    ochre: "Ochre",
    plum: "Plum",
    moss: "Moss",
    umber: "Umber",
    slate: "Slate",
  },
  // A guest is named after a bird until they say otherwise.
  birds:
    "Avocet Bittern Brambling Bunting Chough Crake Curlew Dipper Dotterel Dunlin Egret Fieldfare Goldcrest Goshawk Heron Hobby Hoopoe Jackdaw Kestrel Kite Lapwing Linnet Martin Merlin Nuthatch Oriole Osprey Ouzel Petrel Pipit Plover Puffin Redstart Redwing Ruff Sandpiper Serin Shearwater Shrike Siskin Skylark Snipe Starling Stonechat Swift Teal Tern Thrush Turnstone Wagtail Warbler Waxwing Wheatear Whimbrel Wigeon Wren Wryneck".split(
      " ",
    ),

  ago(then: Date): string {
    let amount = (then.getTime() - Date.now()) / 1000;
    if (Math.abs(amount) < 60) return t.justNow;
    for (const [size, unit] of steps) {
      if (Math.abs(amount) < size) return relative.format(Math.round(amount), unit);
      amount /= size;
    }
    return "";
  },
};
