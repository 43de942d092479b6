// One stock client of any generation, with the same few methods for all. Runs in Node and in the browser.
import * as Y13 from 'yjs'
import * as Y14 from '@y/y'
import { WebsocketProvider as Provider1 } from 'ywebsocket1'
import { WebsocketProvider as Provider2 } from 'ywebsocket2'
import { WebsocketProvider as Provider3 } from 'ywebsocket3'
import { WebsocketProvider as Provider4 } from 'ywebsocket4'

const providers = { 1: Provider1, 2: Provider2, 3: Provider3, 4: Provider4 }

/** Shared roots as yjs 13 has them: a type for each kind. */
class Roots13 {
  Y = Y13
  doc = new Y13.Doc()
  text = this.doc.getText('content')
  map = this.doc.getMap('map')
  array = this.doc.getArray('array')
  xml = this.doc.getXmlFragment('xml')
  set (key, value) { this.map.set(key, value) }
  values () { return this.map.toJSON() }
  markup () { return this.xml.toString() }
  paragraph (text) {
    const element = new Y13.XmlElement('p')
    element.insert(0, [new Y13.XmlText(text)])
    this.xml.push([element])
  }
}

/** And as yjs 14 has them: one type for all. */
class Roots14 {
  Y = Y14
  doc = new Y14.Doc()
  text = this.doc.get('content')
  map = this.doc.get('map')
  array = this.doc.get('array')
  xml = this.doc.get('xml')
  set (key, value) { this.map.setAttr(key, value) }
  values () { return this.map.toJSON().attrs ?? {} }
  markup () { return this.xml.toString().replaceAll('<>', '').replaceAll('</>', '') }
  paragraph (text) {
    const element = new Y14.Type('p')
    element.insert(0, text)
    this.xml.push([element])
  }
}

export class Peer {
  constructor (generation, url, room, { name = null, ...options } = {}) {
    const roots = this.roots = String(generation).startsWith('4') ? new Roots14() : new Roots13()
    this.doc = roots.doc
    this.opened = 0
    this.lost = 0
    this.closes = []
    this.frames = []
    const opened = (socket) => {
      socket.addEventListener('message', event => {
        if (this.recording) this.frames.push(hex(new Uint8Array(event.data)))
      })
      socket.addEventListener('close', event => { this.closes.push([event.code, event.reason]) })
    }
    const Socket = options.WebSocketPolyfill ?? globalThis.WebSocket
    options.WebSocketPolyfill = class extends Socket {
      constructor (...args) { super(...args); opened(this) }
    }
    this.provider = new providers[generation](url, room, this.doc, { disableBc: true, connect: false, ...options })
    this.awareness = this.provider.awareness
    this.awareness.setLocalState(name === null ? null : { user: { name } })
    this.provider.on('status', ({ status }) => {
      if (status === 'connected') this.opened++
      if (status === 'disconnected') this.lost++
    })
    this.provider.on('connection-error', () => {})
    this.provider.connect()
  }

  /** What can be asked of a client; all of it unless `keys` name some. */
  state (keys = Object.keys(facts)) {
    return Object.fromEntries(keys.map(key => [key, facts[key](this)]))
  }

  /** Resolves with the state once it has all the `wanted` values. */
  async until (wanted, timeout) {
    const started = performance.now()
    while (true) {
      const state = this.state(Object.keys(wanted))
      const differs = Object.keys(wanted).filter(key => !same(state[key], wanted[key]))
      if (differs.length === 0) return this.state(small)
      if (performance.now() - started > timeout) {
        const found = differs.map(key => `${key} is ${excerpt(state[key])}, not ${excerpt(wanted[key])}`)
        throw new Error(`after ${timeout} ms ${found.join('; ')}`)
      }
      // A clock and not the events: each generation names them otherwise, and some states have none.
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }

  /** Type what a trace says: [position, deleted, inserted], one transaction and one frame each. Among
      others who write at once, what would be beyond the end is done at the end. */
  async type (patches) {
    const { text } = this.roots
    for (const [position, deleted, inserted] of patches) {
      this.doc.transact(() => {
        const at = Math.min(position, text.length)
        const length = Math.min(deleted, text.length - at)
        if (length) text.delete(at, length)
        if (inserted) text.insert(at, inserted)
      })
      await new Promise(resolve => setTimeout(resolve, 0))
    }
  }

  /** In code units, as editors count; -1 is the end. */
  insert (at, text) { this.roots.text.insert(at < 0 ? this.roots.text.length : at, text) }
  paste (unit, times) { this.insert(-1, unit.repeat(times)) }
  delete (at, length) { this.roots.text.delete(at, length) }
  set (key, value) { this.roots.set(key, value) }
  push (value) { this.roots.array.push([value]) }
  paragraph (text) { this.roots.paragraph(text) }
  rename (name) { this.awareness.setLocalState(name === null ? null : { user: { name } }) }
  record (recording) { this.recording = recording; this.frames = [] }
  send (bytes) { this.provider.ws.send(unhex(bytes)) }
  update () { return hex(this.roots.Y.encodeStateAsUpdate(this.doc)) }

  disconnect () { this.provider.disconnect() }
  connect () { this.provider.connect() }
  destroy () { this.provider.destroy(); this.doc.destroy() }
}

const peers = new Map()

/** What the tests call: `method` of peer `id`, or "open" a new one. */
export const call = async (id, method, args) => {
  if (method === 'open') {
    peers.set(id, new Peer(...args))
    return null
  }
  const result = await peers.get(id)[method](...args)
  return result === undefined ? null : result
}

const facts = {
  text: peer => peer.roots.text.toString(),
  synced: peer => peer.provider.synced,
  connected: peer => peer.provider.wsconnected,
  stopped: peer => !peer.provider.shouldConnect,
  opened: peer => peer.opened,
  lost: peer => peer.lost,
  closes: peer => peer.closes,
  names: peer => [...peer.awareness.getStates().values()].flatMap(state => state.user?.name ?? []).sort(),
  map: peer => peer.roots.values(),
  array: peer => peer.roots.array.toArray(),
  xml: peer => peer.roots.markup(),
  frames: peer => peer.frames
}
const small = ['synced', 'connected', 'stopped', 'opened', 'lost', 'closes', 'names']

const same = (a, b) => typeof a === 'string' ? a === b : sorted(a) === sorted(b)
const sorted = value => JSON.stringify(value, (_, part) =>
  part?.constructor === Object ? Object.fromEntries(Object.entries(part).sort()) : part)
const excerpt = value => {
  const text = JSON.stringify(value) ?? 'undefined'
  return text.length > 200 ? `${text.slice(0, 120)}… (${text.length})` : text
}
const hex = bytes => Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')
const unhex = text => Uint8Array.from(text.match(/../g) ?? [], pair => parseInt(pair, 16))
