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
  search: "Search titles and texts",
  empty: "Nothing here yet.",
  emptyHint: "Make a document, send its address to someone, and write together.",
  noMatch: (query: string) => `Nothing here has “${query}” in its title or text.`,
  more: "Show more",
  rename: (title: string) => `Rename ${title}`,
  renameShort: "Rename",
  remove: (title: string) => `Delete ${title}`,
  removeShort: "Delete",
  removed: (title: string) => `Deleted “${title}”.`,
  undo: "Undo",
  undone: (title: string) => `“${title}” is back.`,
  newTitle: "New title",
  copyIt: (title: string) => `Duplicate ${title}`,
  copyShort: "Duplicate",
  copyOf: (title: string) => `Copy of ${title}`,
  copiedAs: (title: string) => `“${title}” is made.`,
  openIt: "Open",
  sort: "Order",
  sorts: { changed: "Latest change", created: "Newest", title: "Title" },
  recent: "Opened here lately",
  moreOf: (title: string) => `What can be done with ${title}`,
  moreShort: "More",
  // Files that become documents
  importing: {
    button: "Import",
    hint: "Markdown, text, or an archive of a document",
    drop: "Drop files here to make documents of them",
    one: (title: string) => `“${title}” is imported.`,
    many: (n: number) => `${count(n)} documents are imported.`,
    under: (n: number) => `Importing ${n === 1 ? "a file" : `${count(n)} files`}…`,
    notText: "it is not text in UTF-8",
    unknown: "only .md, .txt and archives (.jsonl) become documents",
    large: "a text may have 1 MB",
    failed: (name: string, why: string) => `“${name}” was not imported: ${t.sentence(why)}`,
    emptyHint: "Or drop a Markdown file here.",
  },
  justNow: "just now",
  unreachable: "The server cannot be reached.",
  failed: (detail: string) => `That did not work: ${detail}`,
  /** The server's reasons begin small and have no full stop. */
  sentence: (detail: string) => `${detail.charAt(0).toUpperCase()}${detail.slice(1)}${/[.!?]$/.test(detail) ? "" : "."}`,

  emptyGuest: "Documents that were shared with you are here when you have signed in.",

  // A document
  title: "Title",
  untitled: "Untitled",
  text: "Text of the document, in Markdown",
  placeholder: "Write here, or press / for headings, lists, tables and more.",
  nothingYet: "Nothing has been written here yet.",
  opening: "Opening…",
  you: (name: string) => `You are ${name}. Change your name or ink`,
  yourName: "Your name",
  yourInk: "Your ink",
  people: "Also here",
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

  // Writing
  notLoaded: "This could not be loaded. Reload the page when you are online.",
  imageElsewhere: "An image on another site. It is not loaded here; follow the link to see it.",
  imageMissing: "This image cannot be shown.",
  linkHint: `${/Mac|iP/.test(navigator.platform) ? "⌘" : "Ctrl"}+click follows this link`,
  openLink: (href: string) => `Open ${href}`,
  tableHint: "Click a cell to change it",
  task: "Task",
  tickTask: "Tick the task",
  tabs: "In a list, a level in or out; in a table, the next cell",
  pastePlain: "Paste as plain text",
  nextView: "Source, preview, reading",
  toTools: "To the tools",
  column: "Column",
  formatting: "Formatting",
  looking: "View",
  insert: "Insert",
  heading: "Heading",
  find: "Find and replace",
  outline: "Outline",
  closeOutline: "Close the outline",
  noHeadings: "No headings yet. # begins one.",
  number: (n: number) => count(n),
  words: "Words",
  characters: "Characters",
  readingTime: "Reading time",
  minutes: (n: number) => `${count(n)} min`,
  selectedWords: "Words selected",
  selectedCharacters: "Characters selected",
  wordsSaid: (n: number) => (n === 1 ? "1 word" : `${count(n)} words`),
  wordsOf: (n: number, of: number) => `${count(n)} of ${t.wordsSaid(of)}`,
  findWhat: "Find",
  replaceBy: "Replace with",
  replace: "Replace",
  replaceAll: "All",
  showReplace: "Replace",
  matchCase: "Match case",
  wholeWord: "Whole words",
  regexp: "Regular expression",
  previousMatch: "Previous match",
  nextMatch: "Next match",
  closeFind: "Close find",
  notFound: "None",
  badExpression: "Not an expression",
  matchPlace: (at: number, of: number, more: boolean) => `${at > 0 ? `${count(at)} of ` : ""}${more ? `${count(of - 1)}+` : count(of)}`,
  replaced: (n: number) => `Replaced ${count(n)}.`,
  views: { source: "Markdown source", live: "Write, with preview", reading: "Read" },
  viewSaid: { source: "Showing the Markdown source.", live: "Showing the text as it will look, to write in.", reading: "Showing the text to read." },
  actions: {
    undo: "Undo",
    redo: "Redo",
    paragraph: "Text",
    heading1: "Heading 1",
    heading2: "Heading 2",
    heading3: "Heading 3",
    heading4: "Heading 4",
    strong: "Bold",
    emphasis: "Italic",
    strike: "Strikethrough",
    code: "Code",
    link: "Link",
    bullets: "List",
    numbers: "Numbered list",
    tasks: "Tasks",
    quote: "Quote",
    fence: "Code block",
    table: "Table",
    image: "Image",
    rule: "Rule",
    formula: "Formula",
  },

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

  // While one was away
  away: {
    title: "While you were away",
    theirs(names: string[], more: number, others: boolean, places: number): string {
      const rest = more > 0 ? [others ? `at least ${count(more)} more` : more === 1 ? "1 other" : `${count(more)} others`] : others ? ["others"] : [];
      const who = people.format([...names, ...rest]);
      const where = places === 1 ? "1 place" : `${count(places)} places`;
      return `While you were away, ${who} changed ${where}.`;
    },
    mine(words: number, places: number): string {
      if (words > 0) return `You added ${words === 1 ? "1 word" : `${count(words)} words`}.`;
      return `You changed ${places === 1 ? "1 place" : `${count(places)} places`}.`;
    },
    both: (n: number) => (n === 1 ? "1 sentence was edited by both: read it again." : `${count(n)} sentences were edited by both: read them again.`),
    bothTitle: "Edited by you and by others at the same time",
    bothSaid: (sentence: string) => `Edited by both: “${sentence.length > SAID_LIMIT ? `${sentence.slice(0, SAID_LIMIT)}…` : sentence}”`,
    look: "Show the changes",
    lookBoth: "Show them",
    next: "Next of these changes",
    previous: "Previous of these changes",
    stop: (n: number, of: number) => `${count(n)} of ${count(of)}`,
    you: "You",
    elsewhere: "you on another device",
    byYou: "You, while you were away",
    by: (name: string) => `${name}, while you were away`,
    something: "⌫",
    takeBackTheirs: "Take theirs back",
    takeBackMine: "Take mine back",
    tookTheirs: "What others changed is taken back.",
    tookMine: "What you changed is taken back.",
    dismiss: "Close this note",
    home: (words: number) => (words === 1 ? "The word that you wrote offline is saved." : `The ${count(words)} words that you wrote offline are saved.`),
  },

  // What the server will not take
  keep: {
    another: "This name means another document now: the one you see was reset or made anew on the server. This is your copy of it.",
    openOther: "Open what is there now",
    openStill: "Open it all the same",
    loses: (n: number) => `${edits(n)} of yours would be gone.`,
    saveAsNew: "Save as a new document",
    saving: "Saving…",
    download: "Download",
    copyOf: (title: string) => `${title} (copy)`,
    slow: "The server did not confirm it. Your copy is still here.",
  },

  // On this device
  device: {
    title: "On this device",
    hint: "Documents that you have opened here. They open without a network, and what you write in them is kept here until the server has it.",
    these: "The server cannot be reached. These documents are on this device, and open without it.",
    nothing: "Nothing is kept on this device.",
    unsent: (n: number) => `${edits(n)} not sent yet`,
    size(bytes: number): string {
      if (bytes < 1000) return "less than 1 kB";
      if (bytes >= 1e9) return `${(bytes / 1e9).toLocaleString("en", { maximumFractionDigits: 1 })} GB`;
      return bytes < 1e6 ? `${count(Math.round(bytes / 1000))} kB` : `${(bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB`;
    },
    usage: (used: string, quota: string) => `Collab uses ${used} here, of ${quota} that this browser allows.`,
    lasting: "The browser has agreed to keep it until you remove it.",
    fleeting: "When space runs out, the browser may throw it away; edits not sent yet, too.",
    ask: "Ask it to keep this",
    refused: "The browser does not agree now. It may when you use this site more, or add it to your bookmarks.",
    remove: (title: string) => `Remove ${title} from this device`,
    removeShort: "Remove from this device",
    removeAll: "Remove all of it",
    removed: (title: string) => `“${title}” is not on this device any more.`,
    removedAll: "Nothing is on this device any more.",
    warn: (title: string, n: number) => `${edits(n)} in “${title}” ${n === 1 ? "has" : "have"} not reached the server, and ${n === 1 ? "is" : "are"} nowhere else.`,
    warnAll: (n: number) => `${edits(n)} ${n === 1 ? "has" : "have"} not reached the server, and ${n === 1 ? "is" : "are"} nowhere else.`,
    still: "Remove all the same",
    link: "On this device",
  },

  // Together
  together: {
    follow: (name: string, idle: boolean) => `Follow ${name}${idle ? ", who is not active now" : ""}`,
    following: "Following ",
    waiting: "Waiting for ",
    stop: "Stop",
    followed: (name: string) => `You follow ${name}. Writing, scrolling or Escape ends it.`,
    ended: (name: string) => `You do not follow ${name} any more.`,
    everybody: (n: number) => `All ${count(n)} who are here`,
    idle: "not active",
  },

  // Sharing it
  share: "Share",
  close: "Close",
  sharing: {
    title: (title: string) => `Share “${title}”`,
    people: "People",
    links: "Links",
    address: "Address",
    roles: { viewer: "may read", commenter: "may comment", editor: "may write", owner: "owner" },
    /** What somebody with the role may do. */
    means: {
      viewer: "They read the text as it is written, and are seen while they do.",
      commenter: "They read the text; comments are still to come.",
      editor: "They change the text and its title, and read its history.",
      owner: "They do what you may do: share it, delete it, and take it away from you.",
    },
    mine: {
      viewer: "You may read this document.",
      commenter: "You may read this document; comments are still to come.",
      editor: "You may write in this document.",
      owner: "You own this document.",
    },
    others: "Its owners decide who else may. Whoever it is shared with opens it at this address.",
    who: "E-mail address",
    whoHint: "E-mail address of an account here",
    add: "Add",
    role: "Role",
    roleOf: (name: string) => `What ${name} may do`,
    you: "you",
    guest: "A guest without a name",
    history: "History",
    historyOf: (name: string) => `${name} reads the history, with what was deleted`,
    remove: (name: string) => `Remove ${name}`,
    added: (name: string, role: string) => `${name}: ${role}.`,
    removed: (name: string) => `${name} is no longer among them.`,
    noAddress: "That is no e-mail address. An id says whose it is: user:ada, agent:press, guest:…",
    linkInstead: "Make a link for them",
    onlyOwner: "The only owner. To step back, make somebody else an owner first.",
    stepBack: "You will not be able to share this document any more.",
    leave: "You will lose this document, unless you have it by a link too.",
    goOn: "Go on",
    everybody: "Everybody who reaches this server",
    everybodySignedIn: "Everybody who has signed in",
    everybodyRoles: { viewer: "may read.", commenter: "may comment.", editor: "may write.", owner: "may do everything." },
    byServer: "Whoever runs it has set this for all documents: what is set below takes it from nobody.",
    newLink: "New link",
    linksHint: "Whoever opens a link may do what it says, without an account, until it ends.",
    makeLink: "Make the link",
    linkTo: { viewer: "Link to read", commenter: "Link to comment", editor: "Link to write", owner: "Link" },
    gives: "What it gives",
    lasts: "Ends",
    last: {
      never: "when you revoke it",
      day: "in a day",
      week: "in a week",
      month: "in 30 days",
      date: "on a day of your choice…",
    },
    lastDay: "Last day",
    noDay: "Choose a day that is still to come.",
    linkPassword: "Password",
    optional: "if you like",
    label: "For whom",
    linkHistory: "with the history, which shows what was deleted",
    until: (when: string) => `until ${when}`,
    ended: (when: string) => `ended ${when}`,
    withPassword: "with a password",
    withHistory: "with history",
    withoutHistory: "without history",
    once: "Copy it now: it is shown only this once.",
    linkAddress: "Address of the link",
    copy: "Copy",
    copied: "Copied",
    byHand: "It is selected: copy it with the keyboard.",
    nobodyCame: "Nobody has come through it yet",
    came(n: number, names: string[]): string {
      const others = n - names.length;
      const who = n === 1 ? "1 person" : `${count(n)} people`;
      if (names.length === 0) return `${who} came through it`;
      return `${who} came through it: ${people.format(others > 0 ? [...names, others === 1 ? "1 other" : `${count(others)} others`] : names)}`;
    },
    revoke: "Revoke",
    revokeSaid: (link: string) => `Revoke: ${link}`,
    revokeAsk: "Everybody who came through it loses what it gave, at once.",
    revoked: "The link is revoked.",
    made: "The link is made.",
  },

  // Who wrote what is selected
  who: {
    ask: "Who wrote this?",
    title: "Who wrote this",
    wrote: (n: number) => (n === 1 ? "1 character" : `${count(n)} characters`),
    between(first: Date, last: Date): string {
      const [from, to] = [t.moment(first), t.moment(last)];
      return from === to ? to : t.day(first) === t.day(last) ? t.dayAndSpan(first, last) : `${from} – ${to}`;
    },
    see: "See in history",
    seeSaid: (name: string) => `See in history what ${name} wrote`,
    partly: "You have selected so much that this is only its beginning.",
    notSaved: "What you selected is not all on the server yet. Who wrote it is known when it is saved.",
  },

  // Shortcuts
  shortcutsShort: "Shortcuts",
  shortcuts: {
    title: "Keyboard shortcuts",
    or: "or",
    writing: "Writing",
    document: "The document",
    redo: "Redo",
    goOnList: "Go on with a list or a quote",
    moveLine: "Move lines up or down",
    copyLine: "Copy lines up or down",
    deleteLine: "Delete lines",
    indent: "Indent more or less",
    whoWrote: "Who wrote what is selected",
    thisSheet: "This sheet",
    close: "Close what is open",
    titleDone: "In the title: keep it, and go to the text",
    changes: "Next or previous change",
    versions: "In the list: newer or older version",
    moments: "On the timeline: earlier or later",
    keystrokes: "On the timeline: one entry",
    /** What is printed on keys, and how it is said. */
    signs: { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", "/": "/", "[": "[", "]": "]" } as { [key: string]: string },
    macSigns: { Meta: "⌘", Alt: "⌥", Shift: "⇧", Control: "⌃", Enter: "↩", Escape: "esc" } as { [key: string]: string },
    names: {
      Meta: "Command",
      Control: "Ctrl",
      Alt: "Alt",
      Shift: "Shift",
      Enter: "Enter",
      Tab: "Tab",
      Escape: "Esc",
      ArrowUp: "Up",
      ArrowDown: "Down",
      ArrowLeft: "Left",
      ArrowRight: "Right",
      "/": "slash",
      "[": "left bracket",
      "]": "right bracket",
    } as { [key: string]: string },
  },

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

  // Images
  images: {
    image: "Image",
    uploading: (name: string) => `Uploading ${name}…`,
    uploaded: (name: string) => `${name} is in the text.`,
    refused: (name: string, why: string) => `“${name}” was not taken: ${t.sentence(why)}`,
    notKept: "the server cannot be reached, and this browser keeps no files",
    kinds: "only PNG, JPEG, GIF, WebP and AVIF are taken",
  },

  // Downloads
  downloads: {
    button: "Download",
    title: "Download as",
    formats: {
      docx: "Word",
      pdf: "PDF",
      html: "Web page",
      markdown: "Markdown",
      zip: "Markdown and images",
      archive: "Everything, with its history",
    },
    hints: {
      docx: "Images are in it (.docx)",
      pdf: "To print or to send (.pdf)",
      html: "One file that needs nothing else (.html)",
      markdown: "The text as it is here (.md)",
      zip: "In one archive (.zip)",
      archive: "To be imported by another Collab (.jsonl)",
    },
    making: (what: string) => `${what} is being made…`,
    made: (what: string) => `${what} is made.`,
    madeWithout: (what: string) => `${what} is made, without your last edits: they have not reached the server.`,
  },

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
