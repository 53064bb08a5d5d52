"""Prints each message of a topic on a line: gnsq_consumer.py TOPIC CHANNEL LOOKUPD..."""
import sys

import gnsq

topic, channel, *lookupds = sys.argv[1:]
consumer = gnsq.Consumer(
    topic,
    channel,
    lookupd_http_addresses=lookupds,
    lookupd_poll_interval=0.1,
    max_in_flight=10,
)


@consumer.on_message.connect
def print_message(consumer, message):
    print(message.body.decode(), flush=True)


consumer.start()
