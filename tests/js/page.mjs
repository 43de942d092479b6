// Peers in a browser page: tests call `collab(id, method, args)`.
import { call } from './peer.mjs'

globalThis.collab = call
