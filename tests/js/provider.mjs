// A certified OpenID provider (oidc-provider) for tests/web/test_oidc.py. What it is like comes as JSON in the
// one argument: its port, its clients, and the claims of people by the login that they type (any password does).

import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { Provider } from 'oidc-provider'

const { port, clients, people } = JSON.parse(process.argv[2])

const key = (alg, ...options) => ({ ...generateKeyPairSync(...options).privateKey.export({ format: 'jwk' }), alg, use: 'sig' })

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients,
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  findAccount: (_, id) => people[id] && { accountId: id, claims: () => ({ sub: id, ...people[id] }) },
  jwks: { keys: [key('RS256', 'rsa', { modulusLength: 2048 }), key('ES256', 'ec', { namedCurve: 'P-256' })] }
})
provider.on('server_error', (_, error) => console.error(error))
provider.listen(port, '127.0.0.1', () => console.log('ready'))
