// Makes yjs-rich.json.gz and yjs-surrogates.json.gz. In a directory outside the repository:
//   npm install yjs@13 && node generate.mjs
import fs from 'node:fs'
import zlib from 'node:zlib'
import * as Y from 'yjs'

const random = seed => () => {
  seed = (seed + 0x6d2b79f5) >>> 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}
const base64 = bytes => Buffer.from(bytes).toString('base64')
const save = (name, value) => fs.writeFileSync(name, zlib.gzipSync(JSON.stringify(value), { level: 9 }))

// Whether yjs has cut a string between the halves of a surrogate pair.
let watching = false
let torn = false
const splice = Y.ContentString.prototype.splice
Y.ContentString.prototype.splice = function (offset) {
  const code = this.str.charCodeAt(offset - 1)
  if (watching && code >= 0xd800 && code <= 0xdbff) torn = true
  return splice.call(this, offset)
}

// Four clients edit every kind of content, each at times behind the others.
const rich = (n, steps) => {
  const r = random(n * 7919 + 13)
  const int = k => Math.floor(r() * k)
  const docs = [1, 2, 3, 4].map(i => Object.assign(new Y.Doc(), { clientID: 3000000000 + i * 1000 + n }))
  const log = []
  const seen = [0, 0, 0, 0]
  let receiving = false
  docs.forEach(doc => doc.on('update', update => receiving || log.push(update)))
  const receive = i => {
    receiving = true
    while (seen[i] < log.length) Y.applyUpdate(docs[i], log[seen[i]++])
    receiving = false
  }
  for (let step = 0; step < steps; step++) {
    const i = int(4)
    if (r() < 0.5) receive(i)
    const text = docs[i].getText('content')
    const map = docs[i].getMap('map')
    const list = docs[i].getArray('list')
    const xml = docs[i].getXmlFragment('xml')
    const at = int(Math.max(1, text.length - 1))
    const length = 1 + int(Math.min(4, Math.max(1, text.length - at - 1)))
    docs[i].transact(() => {
      switch (int(14)) {
        case 0: case 1: case 2: text.insert(int(text.length + 1), ['a', 'Hallo Welt', 'é漢', 'b\n'][int(4)]); break
        case 3: if (text.length > 1) text.delete(at, length); break
        case 4: if (text.length > 1) text.format(at, length, { bold: r() < 0.5 ? true : null, link: { href: 'x' } }); break
        case 5: text.insertEmbed(int(text.length + 1), { image: 'a.png', n: int(9) }); break
        case 6: map.set('k' + int(4), [1, 2.5, 's', null, { a: [true] }][int(5)]); break
        case 7: {
          const inner = new Y.Map()
          map.set('nest' + int(2), inner)
          inner.set('array', Y.Array.from([1, 'z']))
          break
        }
        case 8: list.insert(int(list.length + 1), [int(99), 'str', { o: 1 }]); break
        case 9: if (list.length) list.delete(int(list.length), 1); break
        case 10: {
          const paragraph = new Y.XmlElement('p')
          paragraph.setAttribute('id', String(int(9)))
          paragraph.insert(0, [new Y.XmlText('para ' + int(99))])
          xml.insert(int(xml.length + 1), [paragraph])
          break
        }
        case 11: if (xml.length) { const inner = xml.get(int(xml.length)).get(0); inner.insert(int(inner.length + 1), '+') } break
        case 12: if (xml.length && r() < 0.4) xml.delete(int(xml.length), 1); break
        case 13: { const inner = map.get('nest0'); if (inner) inner.get('array').push([int(9)]) } break
      }
    })
  }
  docs.forEach((_, i) => receive(i))
  const doc = docs[0]
  return {
    updates: log.map(base64),
    state: base64(Y.encodeStateAsUpdate(doc)),
    text: doc.getText('content').toDelta(),
    map: doc.getMap('map').toJSON(),
    list: doc.getArray('list').toJSON(),
    xml: doc.getXmlFragment('xml').toString()
  }
}

// Three clients edit a text of emoji through a server, at UTF-16 offsets; every third trace keeps pairs whole.
const surrogates = n => {
  const r = random(100003 + n)
  const int = k => Math.floor(r() * k)
  const whole = n % 3 === 1
  torn = false
  const server = new Y.Doc()
  const updates = []
  const docs = [1, 2, 3].map(i => Object.assign(new Y.Doc(), { clientID: 1000000 * i + n }))
  const queues = docs.map(() => [])
  docs.forEach((doc, i) => doc.on('update', (update, origin) => origin === 'server' || queues[i].push(update)))
  const give = update => {
    updates.push(base64(update))
    watching = true
    Y.applyUpdate(server, update)
    watching = false
  }
  for (let step = 5 + int(25); step > 0; step--) {
    const doc = docs[int(3)]
    const text = doc.getText('content')
    const s = text.toString()
    const inside = x => whole && /[\udc00-\udfff]/.test(s.charAt(x)) && /[\ud800-\udbff]/.test(s.charAt(x - 1))
    let from = int(text.length + 1)
    let to = Math.min(text.length, from + 1 + int(3))
    if (inside(from)) from--
    if (inside(to)) to++
    const what = r()
    if (what < 0.6 || !text.length) {
      let word = ['a', 'bc', 'é', '🎉', 'x🎉y', '👩‍👩‍👧', '漢字', '🇩🇪', '\n', 'hello 🎈 '][int(10)]
      if (n % 3 === 2 && r() < 0.1) word = r() < 0.5 ? '\ud83c' : '\udf89'
      text.insert(from, word)
    } else if (to > from) what < 0.9 ? text.delete(from, to - from) : text.format(from, to - from, { bold: true })
    const sender = int(3)
    if (r() < 0.5 && queues[sender].length) {
      if (r() < 0.3) give(Y.encodeStateAsUpdate(docs[sender], Y.encodeStateVector(server)))
      else queues[sender].forEach(give)
      queues[sender] = []
    }
    const reader = docs[int(3)]
    if (r() < 0.4) Y.applyUpdate(reader, Y.encodeStateAsUpdate(server, Y.encodeStateVector(reader)), 'server')
  }
  queues.flat().forEach(give)
  return { whole, torn, updates, text: Buffer.from(server.getText('content').toString(), 'utf16le').toString('base64') }
}

save('yjs-rich.json.gz', Array.from({ length: 8 }, (_, n) => rich(n, 100)))
save('yjs-surrogates.json.gz', Array.from({ length: 300 }, (_, n) => surrogates(n)))
