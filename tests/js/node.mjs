// Peers in Node: a call a line on stdin as [number, id, method, args], its answer a line on stdout.
import { createInterface } from 'node:readline'
import WebSocket from 'ws'
import { call } from './peer.mjs'

const console_ = line => process.stderr.write(`${line}\n`)
console.log = console.warn = console_

createInterface({ input: process.stdin }).on('line', async line => {
  const [number, id, method, args] = JSON.parse(line)
  // The polyfill that the README of each generation names; Node's own WebSocket has the browsers' interface.
  if (method === 'open') args[3] = { ...args[3], WebSocketPolyfill: WebSocket }
  let answer
  try {
    answer = { value: await call(id, method, args) }
  } catch (error) {
    answer = { error: String(error.stack ?? error) }
  }
  process.stdout.write(JSON.stringify([number, answer]) + '\n')
}).on('close', () => process.exit())
