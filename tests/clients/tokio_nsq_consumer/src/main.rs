//! Prints each message of a topic on a line: tokio_nsq_consumer TOPIC CHANNEL LOOKUPD...

use std::io::Write;
use std::time::Duration;

use tokio_nsq::{
    NSQChannel, NSQConsumerConfig, NSQConsumerConfigSources, NSQConsumerLookupConfig, NSQTopic,
};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let topic = NSQTopic::new(arguments.next().unwrap()).unwrap();
    let channel = NSQChannel::new(arguments.next().unwrap()).unwrap();
    let lookupds = arguments.map(|lookupd| format!("http://{lookupd}"));
    let lookup = NSQConsumerLookupConfig::new()
        .set_poll_interval(Duration::from_millis(100))
        .set_addresses(lookupds.collect());
    let mut consumer = NSQConsumerConfig::new(topic, channel)
        .set_max_in_flight(10)
        .set_rebalance_interval(Duration::from_millis(100))
        .set_sources(NSQConsumerConfigSources::Lookup(lookup))
        .build();
    while let Some(message) = consumer.consume_filtered().await {
        println!("{}", String::from_utf8_lossy(&message.body));
        std::io::stdout().flush().unwrap();
        message.finish().await;
    }
}
