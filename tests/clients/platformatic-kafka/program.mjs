// The contract with @platformatic/kafka: the protocol written in TypeScript, with streams.

import { Admin, Consumer, ConfigResourceTypes, IncrementalAlterConfigOperationTypes, Producer, stringDeserializers, stringSerializers } from '@platformatic/kafka'
import { BOOTSTRAP, expect, fails, main, sleep, test, topic, until } from './cases.mjs'

const EARLIEST = -2n
const LATEST = -1n
const READ_UNCOMMITTED = 0
const READ_COMMITTED = 1
const base = { clientId: 'heddle', bootstrapBrokers: [BOOTSTRAP], retries: 5, retryDelay: 200, autocreateTopics: false }

async function using(client, act) {
  try {
    return await act(client)
  } finally {
    await (client instanceof Admin ? client.close() : client.close(true))
  }
}

const administer = act => using(new Admin(base), act)

// Old timestamps are for retention to delete.
const KEPT = { 'retention.ms': '-1' }

async function create(name, partitions = 1, configs = {}) {
  const entries = Object.entries(configs).map(([key, value]) => ({ name: key, value }))
  await administer(admin => admin.createTopics({ topics: [name], partitions, replicas: 1, configs: entries }))
  return name
}

const producer = (options = {}) => new Producer({ ...base, serializers: stringSerializers, ...options })

const messages = (name, values) =>
  values.map(value => ({ topic: name, partition: 0, ...(typeof value === 'object' ? value : { value }) }))

const send = (name, values, options = {}) =>
  using(producer(), client => client.send({ messages: messages(name, values), acks: -1, ...options }))

const consumer = (groupId, options = {}) =>
  new Consumer({ ...base, groupId, deserializers: stringDeserializers, maxWaitTime: 200, ...options })

// Reads so many records of all partitions, and that no more come.
async function read(name, count, options = {}) {
  return using(consumer(topic('reader')), async client => {
    const stream = await client.consume({ topics: [name], mode: 'earliest', autocommit: false, ...options })
    const found = []
    stream.on('data', message => found.push(message))
    let failure
    stream.on('error', error => (failure = error))
    await until(`${count} records of ${name}`, () => {
      if (failure) throw failure
      return found.length >= count
    })
    await sleep(300)
    expect(found.length, count, `records of ${name}`)
    return found
  })
}

const values = records => records.map(record => record.value)

// Whether an error, or one it was made of, is what the broker calls so.
function is(id) {
  const within = error => error.apiId === id || (error.errors ?? []).some(within) || (error.cause ? within(error.cause) : false)
  return within
}

test('compression', async () => {
  const sent = Array.from({ length: 200 }, (_, number) => `${number} ${'compressible '.repeat(40)}`)
  for (const compression of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
    const name = await create(topic(`codec-${compression}`))
    await send(name, sent, { compression })
    expect(values(await read(name, 200)), sent, compression)
  }
})

test('idempotent', async () => {
  const name = await create(topic('idempotent'))
  const sent = Array.from({ length: 100 }, (_, number) => `${number}`)
  await using(producer({ idempotent: true }), async client => {
    for (let at = 0; at < 100; at += 10) await client.send({ messages: messages(name, sent.slice(at, at + 10)), acks: -1 })
  })
  expect(values(await read(name, 100)), sent, 'records')
})

test('admin', async () => {
  const name = await create(topic('admin'), 2, { 'retention.ms': '3600000' })
  await administer(async admin => {
    expect((await admin.listTopics()).includes(name), true, 'it is listed')
    const partitions = async () => (await admin.metadata({ topics: [name], forceUpdate: true })).topics.get(name).partitionsCount
    expect(await partitions(), 2, 'partitions')
    const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: name }
    const retention = async () => {
      const [{ configs }] = await admin.describeConfigs({ resources: [{ ...resource, configurationKeys: null }] })
      return configs.find(config => config.name === 'retention.ms').value
    }
    expect(await retention(), '3600000', 'retention.ms')
    const set = { name: 'retention.ms', value: '7200000', configOperation: IncrementalAlterConfigOperationTypes.SET }
    await admin.incrementalAlterConfigs({ resources: [{ ...resource, configs: [set] }] })
    expect(await retention(), '7200000', 'retention.ms after the change')
    await admin.createPartitions({ topics: [{ name, count: 4, assignments: null }] })
    await until('four partitions', async () => (await partitions()) === 4)
    await fails('creating it twice', () => create(name), is('TOPIC_ALREADY_EXISTS'))
    await admin.deleteTopics({ topics: [name] })
    await until('the topic is gone', async () => !(await admin.listTopics()).includes(name))
  })
})

test('groups', async () => {
  const name = await create(topic('groups'), 4)
  for (const protocol of ['classic', 'consumer']) await shareAndResume(name, protocol)
})

async function shareAndResume(name, protocol) {
  const groupId = topic(`group-${protocol}`)
  const seen = new Set()
  const repeated = []
  const members = []
  const own = protocol === 'classic' ? { sessionTimeout: 6000, heartbeatInterval: 300, rebalanceTimeout: 8000 } : {}
  const join = async () => {
    const client = consumer(groupId, { groupProtocol: protocol, ...own })
    members.push(client)
    const stream = await client.consume({ topics: [name], mode: 'committed', fallbackMode: 'earliest', autocommit: false })
    stream.on('error', () => {})
    stream.on('data', async message => {
      const key = `${message.partition} ${message.offset}`
      if (seen.has(key)) repeated.push(key)
      seen.add(key)
      await Promise.resolve(message.commit()).catch(error => repeated.push(`${key}: ${error.message}`))
    })
    return { client, stream }
  }
  const has = member => member.client.assignments?.find(assignment => assignment.topic === name)?.partitions.length ?? 0
  try {
    await send(name, Array.from({ length: 40 }, (_, number) => ({ value: `${number}`, partition: number % 4 })))
    const first = await join()
    await until(`${protocol}: the first has all`, () => has(first) === 4)
    const total = await administerTotal(name)
    await until(`${protocol}: all are read`, () => seen.size >= total)
    const second = await join()
    await until(`${protocol}: both share`, () => has(first) === 2 && has(second) === 2)
    await first.client.close(true)
    await until(`${protocol}: the second takes over`, () => has(second) === 4)
    await second.client.close(true)
    await send(name, [0, 1, 2, 3].map(partition => ({ value: 'late', partition })))
    const third = await join()
    await until(`${protocol}: it goes on from the commit`, () => seen.size >= total + 4)
    await sleep(500)
    await third.client.close(true)
    expect([seen.size, repeated], [total + 4, []], `${protocol}: records, each once`)
  } finally {
    for (const member of members) if (!member.closed) await member.close(true).catch(() => {})
  }
}

async function administerTotal(name) {
  const partitions = [0, 1, 2, 3].map(partitionIndex => ({ partitionIndex, timestamp: LATEST }))
  const [listed] = await administer(admin => admin.listOffsets({ topics: [{ name, partitions }] }))
  return listed.partitions.reduce((sum, partition) => sum + Number(partition.offset), 0)
}

test('transactions', async () => {
  const source = await create(topic('source'))
  const name = await create(topic('transactions'))
  const group = topic('txn-group')
  await send(source, ['1', '2', '3'])
  await using(consumer(group), async reader => {
    const stream = await reader.consume({ topics: [source], mode: 'earliest', autocommit: false })
    const batch = []
    stream.on('data', message => batch.push(message))
    await until('the source is read', () => batch.length === 3)
    await using(producer({ transactionalId: topic('txn'), idempotent: true }), async client => {
      const committed = await client.beginTransaction()
      await committed.addConsumer(reader)
      await committed.send({ messages: messages(name, batch.map(message => `committed ${message.value}`)) })
      for (const message of batch) await committed.addOffset(message)
      await committed.commit()
      const aborted = await client.beginTransaction()
      await aborted.send({ messages: messages(name, ['aborted']) })
      await aborted.abort()
      const last = await client.beginTransaction()
      await last.send({ messages: messages(name, ['last']) })
      await last.commit()
    })
  })
  const wanted = ['committed 1', 'committed 2', 'committed 3']
  expect(values(await read(name, 4, { isolationLevel: READ_COMMITTED })), [...wanted, 'last'], 'read_committed')
  expect(values(await read(name, 5, { isolationLevel: READ_UNCOMMITTED })), [...wanted, 'aborted', 'last'], 'read_uncommitted')
  await administer(async admin => {
    const [{ topics }] = await admin.listConsumerGroupOffsets({ groups: [group] })
    expect(topics[0].partitions[0].committedOffset, 3n, 'the offset that the transaction committed')
  })
})

test('headers', async () => {
  const name = await create(topic('headers'))
  await send(name, [{ value: 'x', headers: new Map([['a', '1'], ['b', ''], ['c', '2']]) }])
  expect((await read(name, 1))[0].headerEntries, [['a', '1'], ['b', ''], ['c', '2']], 'headers')
})

test('tombstones', async () => {
  const name = await create(topic('tombstones'))
  await send(name, [{ key: 'k', value: undefined }, { key: 'k', value: '' }, { value: 'no key' }])
  const raw = { deserializers: {} }
  const found = (await read(name, 3, raw)).map(({ key, value }) => [key ?? null, value ?? null])
  expect(found.map(([key]) => key && `${key}`), ['k', 'k', null], 'keys')
  expect(found.map(([, value]) => value && `${value}`), [null, '', 'no key'], 'values')
})

test('timestamps', async () => {
  const name = await create(topic('timestamps'), 1, KEPT)
  await send(name, [{ value: 'x', timestamp: 1_600_000_000_123n }])
  expect((await read(name, 1))[0].timestamp, 1_600_000_000_123n, 'CreateTime')
})

test('offsets by time', async () => {
  const name = await create(topic('times'), 1, KEPT)
  const start = 1_700_000_000_000n
  for (let number = 0n; number < 10n; number++) await send(name, [{ value: 'x', timestamp: start + number * 1000n }])
  await administer(async admin => {
    const cases = [[start - 5n, 0n], [start + 3000n, 3n], [start + 3001n, 4n], [start + 60_000n, -1n], [EARLIEST, 0n], [LATEST, 10n]]
    for (const [timestamp, wanted] of cases) {
      const [{ partitions }] = await admin.listOffsets({ topics: [{ name, partitions: [{ partitionIndex: 0, timestamp }] }] })
      expect(partitions[0].offset, wanted, `offset for ${timestamp}`)
    }
  })
})

test('delete records', async () => {
  const name = await create(topic('delete'))
  await send(name, Array.from({ length: 10 }, (_, number) => `${number}`))
  await administer(async admin => {
    const [{ partitions }] = await admin.deleteRecords({ topics: [{ name, partitions: [{ partition: 0, offset: 4n }] }] })
    expect(partitions[0].lowWatermark, 4n, 'low watermark')
  })
  expect((await read(name, 6)).map(record => record.offset), [4n, 5n, 6n, 7n, 8n, 9n], 'what is left')
})

test('big messages', async () => {
  const name = await create(topic('big'), 1, { 'max.message.bytes': '2000000' })
  const justUnder = 'b'.repeat(2_000_000 - 200)
  await send(name, [justUnder])
  expect((await read(name, 1))[0].value === justUnder, true, 'the big one comes back')
  await fails('a message above max.message.bytes', () => send(name, ['b'.repeat(2_000_100)]), is('MESSAGE_TOO_LARGE'))
})

test('unknown topic', async () => {
  const missing = topic('missing')
  const unknown = error => error.message.includes('Unknown topic') || is('UNKNOWN_TOPIC_OR_PARTITION')(error)
  await fails('producing to it', () => send(missing, ['x']), unknown)
  await administer(admin => fails('deleting it', () => admin.deleteTopics({ topics: [missing] }), is('UNKNOWN_TOPIC_OR_PARTITION')))
})

main()
