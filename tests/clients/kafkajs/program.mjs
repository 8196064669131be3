// The contract with kafkajs: the protocol written in JavaScript.

import zlib from 'node:zlib'
import { promisify } from 'node:util'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import lz4 from 'lz4js'
import { BOOTSTRAP, expect, fails, main, sleep, test, topic, until } from './cases.mjs'

const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = kafkajs

// kafkajs has gzip; the others are its user's to add.
CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(lz4.decompress(buffer))
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => promisify(zlib.zstdCompress)(encoder.buffer),
  decompress: async buffer => promisify(zlib.zstdDecompress)(buffer)
})

const kafka = new Kafka({ brokers: [BOOTSTRAP], logLevel: logLevel.NOTHING, retry: { retries: 5 } })

async function administer(act) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await act(admin)
  } finally {
    await admin.disconnect()
  }
}

// Old timestamps are for retention to delete.
const KEPT = { 'retention.ms': '-1' }

async function create(name, numPartitions = 1, configs = {}) {
  const configEntries = Object.entries(configs).map(([key, value]) => ({ name: key, value }))
  const topics = [{ topic: name, numPartitions, replicationFactor: 1, configEntries }]
  await administer(admin => admin.createTopics({ topics, waitForLeaders: true }))
  return name
}

async function withProducer(options, act) {
  const producer = kafka.producer(options)
  await producer.connect()
  try {
    return await act(producer)
  } finally {
    await producer.disconnect()
  }
}

const messages = values => values.map(value => (typeof value === 'object' ? { partition: 0, ...value } : { partition: 0, value }))

const send = (name, values, options = {}) =>
  withProducer({}, producer => producer.send({ topic: name, messages: messages(values), ...options }))

// Reads so many records of all partitions, and that no more come.
async function read(name, count, options = {}) {
  const consumer = kafka.consumer({ groupId: topic('reader'), maxWaitTimeInMs: 200, ...options })
  const found = []
  await consumer.connect()
  try {
    await consumer.subscribe({ topics: [name], fromBeginning: true })
    await consumer.run({ eachMessage: async ({ message }) => void found.push(message) })
    await until(`${count} records of ${name}`, () => found.length >= count)
    await sleep(300)
    expect(found.length, count, `records of ${name}`)
  } finally {
    await consumer.disconnect()
  }
  return found
}

const values = records => records.map(record => record.value?.toString())

test('compression', async () => {
  const sent = Array.from({ length: 200 }, (_, number) => `${number} ${'compressible '.repeat(40)}`)
  for (const [name, compression] of Object.entries(CompressionTypes)) {
    const to = await create(topic(`codec-${name}`))
    await send(to, sent, { compression })
    expect(values(await read(to, 200)), sent, name)
  }
})

test('idempotent', async () => {
  const name = await create(topic('idempotent'))
  const sent = Array.from({ length: 100 }, (_, number) => `${number}`)
  await withProducer({ idempotent: true, maxInFlightRequests: 1 }, async producer => {
    for (let at = 0; at < 100; at += 10) {
      await producer.send({ topic: name, messages: messages(sent.slice(at, at + 10)) })
    }
  })
  expect(values(await read(name, 100)), sent, 'records')
})

test('admin', async () => {
  const name = await create(topic('admin'), 2, { 'retention.ms': '3600000' })
  await administer(async admin => {
    expect((await admin.listTopics()).includes(name), true, 'it is listed')
    const partitions = async () => (await admin.fetchTopicMetadata({ topics: [name] })).topics[0].partitions.length
    expect(await partitions(), 2, 'partitions')
    const resource = { type: ConfigResourceTypes.TOPIC, name }
    const retention = async () => {
      const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] })
      return resources[0].configEntries.find(entry => entry.configName === 'retention.ms').configValue
    }
    expect(await retention(), '3600000', 'retention.ms')
    const configEntries = [{ name: 'retention.ms', value: '7200000' }]
    await admin.alterConfigs({ resources: [{ ...resource, configEntries }] })
    expect(await retention(), '7200000', 'retention.ms after the change')
    await admin.createPartitions({ topicPartitions: [{ topic: name, count: 4 }] })
    await until('four partitions', async () => (await partitions()) === 4)
    expect(await admin.createTopics({ topics: [{ topic: name }] }), false, 'creating it twice')
    expect(typeof (await admin.describeCluster()).clusterId, 'string', 'the id of the cluster')
    await admin.deleteTopics({ topics: [name] })
    await until('the topic is gone', async () => !(await admin.listTopics()).includes(name))
  })
})

test('groups', async () => {
  const name = await create(topic('groups'), 4)
  const groupId = topic('group')
  const seen = new Set()
  const join = async () => {
    const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 300, maxWaitTimeInMs: 200, rebalanceTimeout: 8000 })
    consumer.has = 0
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      consumer.has = (payload.memberAssignment[name] ?? []).length
    })
    await consumer.connect()
    await consumer.subscribe({ topics: [name], fromBeginning: true })
    await consumer.run({
      eachMessage: async ({ partition, message }) => {
        const key = `${partition} ${message.offset}`
        if (seen.has(key)) seen.add(`${key} again`)
        seen.add(key)
        await consumer.commitOffsets([{ topic: name, partition, offset: `${BigInt(message.offset) + 1n}` }])
      }
    })
    return consumer
  }
  await send(name, Array.from({ length: 40 }, (_, number) => ({ value: `${number}`, partition: number % 4 })))
  const first = await join()
  await until('the first has all', () => first.has === 4)
  const second = await join()
  await until('both share', () => first.has === 2 && second.has === 2)
  await first.disconnect()
  await until('the second takes over', () => second.has === 4)
  await until('all are read', () => seen.size >= 40)
  await second.disconnect()
  await send(name, [0, 1, 2, 3].map(partition => ({ value: 'late', partition })))
  const third = await join()
  await until('it goes on from the commit', () => seen.size >= 44)
  await third.disconnect()
  expect(seen.size, 44, 'records, each once')
  await administer(async admin => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [name] })
    expect(partitions.map(part => part.offset), ['11', '11', '11', '11'], 'committed offsets')
    expect((await admin.describeGroups([groupId])).groups[0].state, 'Empty', 'the group')
    await admin.deleteGroups([groupId])
    expect((await admin.listGroups()).groups.some(group => group.groupId === groupId), false, 'the group is deleted')
  })
})

test('transactions', async () => {
  const source = await create(topic('source'))
  const name = await create(topic('transactions'))
  const group = topic('txn-group')
  await send(source, ['1', '2', '3'])
  await withProducer({ transactionalId: topic('txn'), maxInFlightRequests: 1, idempotent: true }, async producer => {
    const committed = await producer.transaction()
    await committed.send({ topic: name, messages: messages(['committed']) })
    const offsets = { consumerGroupId: group, topics: [{ topic: source, partitions: [{ partition: 0, offset: '3' }] }] }
    await committed.sendOffsets(offsets)
    await committed.commit()
    const aborted = await producer.transaction()
    await aborted.send({ topic: name, messages: messages(['aborted']) })
    await aborted.abort()
    const last = await producer.transaction()
    await last.send({ topic: name, messages: messages(['last']) })
    await last.commit()
  })
  expect(values(await read(name, 2)), ['committed', 'last'], 'read_committed, which is the default of kafkajs')
  expect(values(await read(name, 3, { readUncommitted: true })), ['committed', 'aborted', 'last'], 'read_uncommitted')
  await administer(async admin => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [source] })
    expect(partitions[0].offset, '3', 'the offset that the transaction committed')
  })
})

test('headers', async () => {
  const name = await create(topic('headers'))
  await send(name, [{ value: 'x', headers: { a: ['1', '2'], b: '', c: Buffer.from([0, 255]) } }])
  const { headers } = (await read(name, 1))[0]
  expect([headers.a.map(String), String(headers.b), [...headers.c]], [['1', '2'], '', [0, 255]], 'headers')
})

test('tombstones', async () => {
  const name = await create(topic('tombstones'))
  await send(name, [{ key: 'k', value: null }, { key: 'k', value: '' }, { value: 'no key' }])
  const found = (await read(name, 3)).map(({ key, value }) => [key && `${key}`, value && `${value}`])
  expect(found, [['k', null], ['k', ''], [null, 'no key']], 'keys and values')
})

test('timestamps', async () => {
  const name = await create(topic('timestamps'), 1, KEPT)
  await send(name, [{ value: 'x', timestamp: '1600000000123' }])
  expect((await read(name, 1))[0].timestamp, '1600000000123', 'CreateTime')
  const appended = await create(topic('append-time'), 1, { 'message.timestamp.type': 'LogAppendTime' })
  const before = Date.now()
  await send(appended, [{ value: 'x', timestamp: '1600000000123' }])
  const { timestamp, batchContext } = (await read(appended, 1))[0]
  // kafkajs shows the record's own time; what the broker put is the largest of the batch.
  const at = Math.max(Number(timestamp), Number(batchContext.maxTimestamp))
  expect(at >= before - 1000 && at <= Date.now() + 1000, true, `${at} is about ${before}`)
})

test('offsets by time', async () => {
  const name = await create(topic('times'), 1, KEPT)
  const start = 1_700_000_000_000
  for (let number = 0; number < 10; number++) await send(name, [{ value: 'x', timestamp: `${start + number * 1000}` }])
  await administer(async admin => {
    for (const [at, wanted] of [[start - 5, '0'], [start + 3000, '3'], [start + 3001, '4'], [start + 60_000, '10']]) {
      const [{ offset }] = await admin.fetchTopicOffsetsByTimestamp(name, at)
      expect(offset, wanted, `offset for ${at - start} ms; the end if there is none`)
    }
    const [{ low, high }] = await admin.fetchTopicOffsets(name)
    expect([low, high], ['0', '10'], 'earliest and latest')
  })
})

test('delete records', async () => {
  const name = await create(topic('delete'))
  await send(name, Array.from({ length: 10 }, (_, number) => `${number}`))
  await administer(async admin => {
    // kafkajs 2.2.4 deletes only from topics it has metadata of, and asks for none by itself.
    expect((await admin.fetchTopicOffsets(name))[0].low, '0', 'the first offset')
    await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: '4' }] })
    expect((await admin.fetchTopicOffsets(name))[0].low, '4', 'the first offset left')
  })
  expect((await read(name, 6)).map(record => record.offset), ['4', '5', '6', '7', '8', '9'], 'what is left')
})

test('big messages', async () => {
  const name = await create(topic('big'), 1, { 'max.message.bytes': '2000000' })
  const justUnder = 'b'.repeat(2_000_000 - 200)
  await send(name, [justUnder])
  expect(`${(await read(name, 1))[0].value}` === justUnder, true, 'the big one comes back')
  await fails(
    'a message above max.message.bytes',
    () => send(name, ['b'.repeat(2_000_100)]),
    error => (error.cause ?? error).type === 'MESSAGE_TOO_LARGE'
  )
})

test('unknown topic', async () => {
  const missing = topic('missing')
  const unknown = error => [error.type, error.cause?.type, error.errors?.[0]?.type].includes('UNKNOWN_TOPIC_OR_PARTITION')
  await administer(admin => fails('deleting it', () => admin.deleteTopics({ topics: [missing] }), unknown))
  const producer = kafka.producer({ allowAutoTopicCreation: false, retry: { retries: 1 } })
  await producer.connect()
  await fails('producing to it', () => producer.send({ topic: missing, messages: [{ value: 'x' }] }), unknown)
  await producer.disconnect()
  await administer(async admin => {
    expect((await admin.listTopics()).includes(missing), false, 'it was not created')
  })
})

main()
