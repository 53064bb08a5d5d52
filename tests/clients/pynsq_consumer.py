"""Prints each message of a topic on a line: pynsq_consumer.py TOPIC CHANNEL LOOKUPD..."""
import sys

import nsq


def print_message(message):
    print(message.body.decode(), flush=True)
    return True


topic, channel, *lookupds = sys.argv[1:]
reader = nsq.Reader(
    topic,
    channel,
    message_handler=print_message,
    lookupd_http_addresses=[f"http://{lookupd}" for lookupd in lookupds],
    # The shortest that it takes, in seconds.
    lookupd_poll_interval=1,
    max_in_flight=10,
)
nsq.run()
