/** Names of places in a Y.Text that outlive edits. */

import * as Y from "yjs";

/**
 * What `Y.createRelativePositionFromTypeIndex` gives, found from the nearest place that Yjs remembers for its
 * own edits: from the start, a megabyte that people have worked on takes longer than all the rest of a key.
 */
export function placeAt(text: Y.Text, index: number): Y.RelativePosition {
  if (index >= text.length) return new Y.RelativePosition(null, Y.findRootTypeKey(text), null, 0);
  let nearest: { p: Y.Item; index: number } | null = null;
  for (const marker of text._searchMarker ?? []) {
    if (!nearest || Math.abs(marker.index - index) < Math.abs(nearest.index - index)) nearest = marker;
  }
  if (!nearest) return Y.createRelativePositionFromTypeIndex(text, index);
  let item: Y.Item | null = nearest.p;
  let at = nearest.index; // where the item begins
  while (at > index && item.left) {
    item = item.left as Y.Item;
    if (!item.deleted && item.countable) at -= item.length;
  }
  for (; item; item = item.right) {
    if (item.deleted || !item.countable) continue;
    if (index < at + item.length) {
      return new Y.RelativePosition(null, Y.findRootTypeKey(text), Y.createID(item.id.client, item.id.clock + index - at), 0);
    }
    at += item.length;
  }
  return Y.createRelativePositionFromTypeIndex(text, index);
}
