/** Every word the page says. Names of people and documents are never put into markup, only into text. */

const edits = (n: number): string => (n === 1 ? "1 edit" : `${n.toLocaleString("en")} edits`);
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

  // A document
  title: "Title",
  untitled: "Untitled",
  text: "Text of the document, in Markdown",
  placeholder: "Write here. # makes a heading, **bold**, *italic*, - a list.",
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

  // The status
  saved: "Saved",
  saving: "Saving…",
  connecting: "Connecting…",
  offline: (n: number) => (n === 0 ? "Offline, everything saved" : `Offline, ${edits(n)} on this device`),
  unstored: (n: number) => `Not stored anywhere: ${edits(n)}`,
  deletedStatus: "Read only: deleted",
  readOnlyStatus: "Read only",
  deleted: "This document was deleted. Its text is still here, to read and to copy.",
  readOnly: (reason: string) => `This document is read only: ${reason}`,
  refused: "the server refused the connection.",
  broken: "this page has a fault. Copy the text you need, then reload.",
  keptEdits: (n: number) => `${edits(n)} of yours did not reach the server and stay on this device.`,
  unstoredDetail: "This browser keeps no copy, and the server cannot be reached. Leave this page open, or copy the text.",
  back: "Back online.",
  copy: "Copy the text",
  copied: "Copied",
  selected: "The text is selected. Copy it with the keyboard.",
  restore: "Bring it back",
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
