//! Clients of etcd, for work that is comparable to registrations and lookups.

use crate::clients::etcd::Client;
use crate::error::Result;
use crate::load::{Done, Worker};
use crate::targets::Target;

/// More clients than that share connections, as etcd's clients of one process do.
const MOST_CONNECTIONS: usize = 64;

/// So many clients, spread over the members from this one on.
pub(super) async fn clients(target: &Target, count: usize, first: usize) -> Result<Vec<Client>> {
    let mut connections = Vec::new();
    for number in 0..count.min(MOST_CONNECTIONS) {
        let address = target.member_for(first + number).http;
        connections.push(Client::open(address).await?);
    }
    Ok(connections.iter().cycle().take(count).cloned().collect())
}

/// Puts keys like registrations, each a new one.
pub(super) struct Putter {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) next: usize,
}

impl Putter {
    /// The key that is put as number so-and-so.
    pub(super) fn key(&self, number: usize) -> String {
        format!("/registrations/{}-{number:06}/channel", self.name)
    }
}

impl Worker for Putter {
    async fn operate(&mut self) -> Result<Done> {
        let key = self.key(self.next);
        self.next += 1;
        self.client.put(key, VALUE.into()).await.map(|()| Done::Ok)
    }
}

/// As much as an nsqd tells of itself.
const VALUE: &str =
    r#"{"broadcast_address":"nsqd-0.example.org","tcp_port":4150,"http_port":4151}"#;

/// Gets one key, linearizably.
pub(super) struct Getter {
    pub(super) client: Client,
    pub(super) key: String,
}

impl Worker for Getter {
    async fn operate(&mut self) -> Result<Done> {
        let found = self.client.has(self.key.clone()).await?;
        Ok(if found { Done::Ok } else { Done::Refused })
    }
}
