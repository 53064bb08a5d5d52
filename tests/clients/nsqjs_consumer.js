// Prints each message of a topic on a line: nsqjs_consumer.js TOPIC CHANNEL LOOKUPD...
const nsq = require('nsqjs')

const [topic, channel, ...lookupds] = process.argv.slice(2)
const reader = new nsq.Reader(topic, channel, {
  lookupdHTTPAddresses: lookupds,
  // The shortest that it takes, in seconds.
  lookupdPollInterval: 1,
  maxInFlight: 10,
})
reader.on('message', (message) => {
  console.log(message.body.toString())
  message.finish()
})
reader.connect()
