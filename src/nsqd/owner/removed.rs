//! Handles removals by others: names deleted over HTTP, and claims that an event of another member took.

use std::sync::Arc;

use raftlookupd_raft::storage::registration::ProducerId;
use raftlookupd_raft::storage::registration_db::Name;

use super::state::Owner;

impl Owner {
    pub(super) fn deleted(
        &mut self,
        topic: &Arc<str>,
        channel: Option<&Arc<str>>,
        holders: Vec<ProducerId>,
    ) {
        let mut ids: Vec<Arc<ProducerId>> = Vec::new();
        for holder in holders {
            ids.extend(
                self.producers
                    .get_key_value(&holder)
                    .map(|(id, _)| id.clone()),
            );
        }
        // Others hold nothing of it, but may be about to record it, or to record it again.
        let unsettled = self.producers.iter().filter(|(_, producer)| {
            producer.all_taken
                || !producer.taken.is_empty()
                || producer.review.is_some()
                || !producer.is_settled()
        });
        ids.extend(unsettled.map(|(id, _)| id.clone()));
        for id in ids {
            let Some(producer) = self.producers.get_mut(&id) else {
                continue;
            };
            let of_name = |(other, sub): &Name| {
                other == topic && channel.is_none_or(|channel| sub.as_ref() == Some(channel))
            };
            producer.taken.retain(|name| !of_name(name));
            for session in producer.sessions.clone() {
                let Some(session) = self.sessions.get_mut(&session) else {
                    continue;
                };
                match channel {
                    None => self.discarded.extend(session.topic_deleted(topic)),
                    Some(channel) => session.channel_deleted(topic, channel),
                }
                // What still waits must be recorded after it.
                let waiting = session.unconfirmed_of(topic);
                producer.registered.extend(waiting);
            }
            self.wake(&id);
        }
    }

    pub(super) fn taken(&mut self, producer: ProducerId, name: Option<Name>) {
        let Some(producer) = self.producers.get_mut(&producer) else {
            return;
        };
        match name {
            None => producer.all_taken = true,
            Some(name) => {
                producer.taken.insert(name);
            }
        }
    }
}
