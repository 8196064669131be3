// Runs the cases of a JavaScript client program one after the other and reports each: see `contract.py`.

export const BOOTSTRAP = process.env.HEDDLE_BOOTSTRAP ?? '127.0.0.1:9092'
const ONLY = process.env.CLIENTS_ONLY
const CASE_MS_MAX = 60_000
const cases = []

// The client has no such feature; the text says why that is no fault of the broker's.
export class Skip extends Error {}

export const test = (name, run) => cases.push({ name, run })

export const topic = name => `${name}-${Date.now().toString(36)}${Math.random().toString(36).slice(2, 6)}`

export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

const plain = value =>
  JSON.stringify(value, (_, inner) => {
    if (typeof inner === 'bigint') return `${inner}n`
    return inner === undefined ? 'undefined' : inner
  })

export function expect(found, wanted, what) {
  if (plain(found) !== plain(wanted)) {
    throw new Error(`${what}: ${plain(found)?.slice(0, 300)} instead of ${plain(wanted)?.slice(0, 300)}`)
  }
}

export async function fails(what, act, check) {
  try {
    await act()
  } catch (error) {
    if (!check(error)) throw error
    return
  }
  throw new Error(`${what}: it was done`)
}

// Waits for a condition to give something.
export async function until(what, condition, ms = 30_000) {
  for (const end = Date.now() + ms; ; await sleep(50)) {
    const found = await condition()
    if (found) return found
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`)
  }
}

export async function main() {
  for (const { name, run } of cases) {
    if (ONLY && !name.includes(ONLY)) continue
    let outcome = 'passed'
    let reason = ''
    let timer
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not within ${CASE_MS_MAX} ms`)), CASE_MS_MAX)
    })
    try {
      await Promise.race([run(), limit])
    } catch (error) {
      outcome = error instanceof Skip ? 'skipped' : 'failed'
      reason = describe(error).slice(0, 500)
      if (outcome === 'failed') console.error(name, error)
    } finally {
      clearTimeout(timer)
    }
    console.log(JSON.stringify({ case: name, outcome, reason }))
  }
  // Clients that failed may hold timers and sockets.
  process.exit(0)
}

// An error with those it was made of.
function describe(error) {
  const parts = [`${error.name}: ${error.message}`]
  for (const inner of error.errors ?? []) parts.push(describe(inner))
  if (error.cause) parts.push(describe(error.cause))
  return parts.join(' <- ')
}
