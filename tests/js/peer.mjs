// One stock client of any generation, with the same few methods for all. Runs in Node and in the browser.
import * as Y13 from 'yjs'
import * as Y14 from '@y/y'
import { WebsocketProvider as Provider1 } from 'ywebsocket1'
import { WebsocketProvider as Provider2 } from 'ywebsocket2'
import { WebsocketProvider as Provider3 } from 'ywebsocket3'
import { WebsocketProvider as Provider4 } from 'ywebsocket4'
import * as hocuspocus2 from 'hocuspocus2'
import * as hocuspocus3 from 'hocuspocus3'
import * as hocuspocus4 from 'hocuspocus4'

const providers = { 1: Provider1, 2: Provider2, 3: Provider3, 4: Provider4 }
const hocuspocus = { h2: hocuspocus2, h3: hocuspocus3, h4: hocuspocus4 }

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

/** The connections of a provider, or of several that share a socket, and what is seen of them. */
class Line {
  opened = 0
  lost = 0
  closes = []
  wire = [] // while recording: what was sent as '>hex', what was received as '<hex'

  constructor (Socket, recording) {
    const line = this
    this.recording = recording
    this.Socket = class extends Socket {
      constructor (...args) {
        super(...args)
        let open = false
        this.addEventListener('open', () => { open = true; line.opened++ })
        this.addEventListener('message', event => line.note('<', new Uint8Array(event.data)))
        this.addEventListener('close', event => {
          if (open) line.lost++
          line.closes.push([event.code, event.reason])
        })
        // Hocuspocus takes its own listeners away before it gives up a socket that is still connecting.
        this.addEventListener('error', () => {})
      }

      send (data) {
        line.note('>', data)
        super.send(data)
      }
    }
  }

  note (direction, data) { if (this.recording) this.wire.push(direction + hex(data)) }
}

class Peer {
  constructor (roots, line) {
    this.roots = roots
    this.doc = roots.doc
    this.line = line
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
  rename (name) { this.provider.awareness.setLocalState(name === null ? null : { user: { name } }) }
  record (recording) { this.line.recording = recording; this.line.wire = [] }
  update () { return hex(this.roots.Y.encodeStateAsUpdate(this.doc)) }
}

class WebsocketPeer extends Peer {
  constructor (generation, url, room, { name = null, WebSocketPolyfill = WebSocket, record, ...options }) {
    super(generation === '4' ? new Roots14() : new Roots13(), new Line(WebSocketPolyfill, record))
    this.provider = new providers[generation](url, room, this.doc, {
      disableBc: true, connect: false, ...options, WebSocketPolyfill: this.line.Socket
    })
    this.rename(name)
    this.provider.on('connection-error', () => {})
    this.provider.connect()
  }

  get connected () { return this.provider.wsconnected }
  get stopped () { return !this.provider.shouldConnect }

  send (bytes) { this.provider.ws.send(unhex(bytes)) }
  disconnect () { this.provider.disconnect() }
  connect () { this.provider.connect() }
  destroy () { this.provider.destroy(); this.doc.destroy() }
}

const sockets = new Map() // those that several Hocuspocus providers share, by the name that a test gave

/** A Hocuspocus provider. Those with the same `socket` share one; of a list as `token` each
    authentication takes the next, the last one for ever; `awareness: null` is the provider's own option. */
class HocuspocusPeer extends Peer {
  denials = []
  stateless = []
  saved = ''

  constructor (generation, url, document, options) {
    const { name = null, WebSocketPolyfill = WebSocket, record, socket, token = null, ...rest } = options
    const { HocuspocusProvider, HocuspocusProviderWebsocket } = hocuspocus[generation]
    let line, websocketProvider
    if (sockets.has(socket)) ({ line, websocketProvider } = sockets.get(socket))
    else {
      line = new Line(WebSocketPolyfill, record)
      websocketProvider = new HocuspocusProviderWebsocket({ url, WebSocketPolyfill: line.Socket })
      if (socket) sockets.set(socket, { line, websocketProvider })
    }
    super(new Roots13(), line)
    this.generation = generation
    this.socket = websocketProvider
    this.shares = Boolean(socket)
    this.provider = new HocuspocusProvider({
      websocketProvider, name: document, document: this.doc, broadcast: false, token: handedOut(token), ...rest
    })
    if (this.provider.awareness) this.rename(name)
    this.provider.on('authenticationFailed', ({ reason }) => this.denials.push(reason))
    this.provider.on('stateless', ({ payload }) => this.stateless.push(payload))
    this.attach()
  }

  get connected () { return this.socket.status === 'connected' }
  get stopped () { return !this.socket.shouldConnect }

  send (bytes) { this.socket.send(unhex(bytes)) }
  tell (payload) { this.provider.sendStateless(payload) }
  sync () { this.provider.forceSync() }
  refresh () { return this.provider.sendToken() }

  /** Type marks for ever, a few whenever all is saved; `saved` is the text as of the last such moment. */
  async scribble (mark) {
    this.provider.on('unsyncedChanges', () => {
      if (!this.provider.hasUnsyncedChanges) this.saved = facts.text(this)
    })
    for (let n = 0; ; n++) {
      this.insert(n % 2 - 1, `<${mark} ${n}>`)
      while (n % 4 === 0 && this.provider.hasUnsyncedChanges) await new Promise(resolve => setTimeout(resolve, 1))
    }
  }

  /** Try again to get in after a denial, on the same socket. */
  async authenticate (token) {
    this.provider.configuration.token = token
    if (this.generation === 'h2') return this.attach() // a denial detaches it, and it knows no other way
    await this.provider.sendToken()
    this.provider.startSync()
  }

  /** Leave and join with this document only; the socket stays. 2.x joins when it is made. */
  detach () { this.generation === 'h2' ? this.provider.disconnect() : this.provider.detach() }
  attach () {
    if (this.generation !== 'h2') this.provider.attach()
    else if (!this.provider.isConnected) this.provider.connect()
  }

  disconnect () { this.socket.disconnect() }
  connect () { this.socket.connect() }
  destroy () {
    this.provider.destroy()
    if (!this.shares) this.socket.destroy()
    this.doc.destroy()
  }
}

const handedOut = token => Array.isArray(token) ? async () => {
  await new Promise(resolve => setTimeout(resolve, 200)) // as one that asks its application's server
  return token.length > 1 ? token.shift() : token[0]
} : token

const peers = new Map()

/** What the tests call: `method` of peer `id`, or "open" a new one. */
export const call = async (id, method, args) => {
  if (method === 'open') {
    peers.set(id, new (args[0] in hocuspocus ? HocuspocusPeer : WebsocketPeer)(...args))
    return null
  }
  const result = await peers.get(id)[method](...args)
  return result === undefined ? null : result
}

const facts = {
  text: peer => peer.roots.text.toString(),
  synced: peer => peer.provider.synced,
  connected: peer => peer.connected,
  stopped: peer => peer.stopped,
  opened: peer => peer.line.opened,
  lost: peer => peer.line.lost,
  closes: peer => peer.line.closes,
  names: peer => [...peer.provider.awareness?.getStates().values() ?? []].flatMap(
    state => state.user?.name ?? []).sort(),
  map: peer => peer.roots.values(),
  array: peer => peer.roots.array.toArray(),
  xml: peer => peer.roots.markup(),
  wire: peer => peer.line.wire,
  frames: peer => peer.line.wire.filter(seen => seen.startsWith('<')).map(seen => seen.slice(1)),
  // Of Hocuspocus providers only:
  unsynced: peer => peer.provider.unsyncedChanges,
  authenticated: peer => peer.provider.isAuthenticated,
  scope: peer => peer.provider.authorizedScope,
  denied: peer => peer.denials?.length > 0,
  denials: peer => peer.denials,
  saved: peer => peer.saved,
  stateless: peer => peer.stateless
}
const small = ['synced', 'connected', 'stopped', 'opened', 'lost', 'closes', 'names',
  'unsynced', 'authenticated', 'scope', 'denials', 'stateless']

const same = (a, b) => typeof a === 'string' ? a === b : sorted(a) === sorted(b)
const sorted = value => JSON.stringify(value, (_, part) =>
  part?.constructor === Object ? Object.fromEntries(Object.entries(part).sort()) : part)
const excerpt = value => {
  const text = JSON.stringify(value) ?? 'undefined'
  return text.length > 200 ? `${text.slice(0, 120)}… (${text.length})` : text
}
const hex = bytes => Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')
const unhex = text => Uint8Array.from(text.match(/../g) ?? [], pair => parseInt(pair, 16))
