//! The nsqds of a registry of some size: their names, sessions and registrations.

use std::time::{Duration, Instant};

use crate::clients::v1::Session;
use crate::error::Result;
use crate::load;
use crate::size::Size;
use crate::targets::{Target, wait_until};

/// The name of a topic, which all nsqds have.
pub(crate) fn topic(number: usize) -> String {
    format!("topic-{number:05}")
}

/// REGISTER of registration number so-and-so of an nsqd.
pub(crate) fn register(size: Size, number: usize) -> String {
    let topic = topic(number / size.channels());
    let channel = number % size.channels();
    format!("REGISTER {topic} channel-{channel}")
}

/// All that one nsqd registers.
fn registrations(size: Size) -> impl Iterator<Item = String> + Send {
    (0..size.registrations_of_an_nsqd()).map(move |number| register(size, number))
}

/// The `broadcast_address` of nsqd number so-and-so.
fn host(nsqd: usize) -> String {
    format!("nsqd-{nsqd}.example.org")
}

/// Sessions of all nsqds, each with one member.
#[derive(Debug)]
pub(crate) struct Nsqds {
    size: Size,
    sessions: Vec<Session>,
}

/// How long it took to register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registered {
    pub(crate) registrations: usize,
    pub(crate) took: Duration,
    pub(crate) unavailable: usize,
}

impl Nsqds {
    /// Connects all nsqds, spread over the members, and registers all they have, pipelined. It
    /// takes until every member shows it: what is unavailable at first comes later.
    ///
    /// # Errors
    /// As the sessions'.
    pub(crate) async fn register(target: &Target, size: Size) -> Result<(Nsqds, Registered)> {
        let mut sessions = Vec::with_capacity(size.nsqds());
        for nsqd in 0..size.nsqds() {
            let address = target.member_for(nsqd).tcp;
            sessions.push(Session::open(address, &host(nsqd)).await?);
        }
        let began = Instant::now();
        let (sessions, mut registered) = register_all(sessions, size).await?;
        let mut nsqds = Nsqds { size, sessions };
        nsqds.wait_for_the_last_topic(target).await?;
        registered.took = began.elapsed();
        nsqds.ping().await?;
        Ok((nsqds, registered))
    }

    /// Those of one member come back and register all they have again.
    ///
    /// # Errors
    /// As the sessions'.
    pub(crate) async fn reconnect(&mut self, target: &Target, member: usize) -> Result<Registered> {
        let mut again = Vec::new();
        let members = target.spread().len();
        let positions: Vec<usize> = (member..self.size.nsqds()).step_by(members).collect();
        for nsqd in &positions {
            let address = target.member_for(*nsqd).tcp;
            again.push(Session::open(address, &host(*nsqd)).await?);
        }
        let (again, registered) = register_all(again, self.size).await?;
        for (position, session) in positions.into_iter().zip(again) {
            self.sessions[position] = session;
        }
        self.ping().await?;
        Ok(registered)
    }

    /// All say that they live.
    ///
    /// # Errors
    /// As the sessions'.
    pub(crate) async fn ping(&mut self) -> Result<()> {
        for session in &mut self.sessions {
            session.ping().await?;
        }
        Ok(())
    }

    /// The sessions, to be used up by a workload.
    pub(crate) fn take_sessions(&mut self) -> Vec<Session> {
        std::mem::take(&mut self.sessions)
    }

    /// Puts them back, in their order.
    pub(crate) fn put_sessions(&mut self, sessions: Vec<Session>) {
        self.sessions = sessions;
    }

    /// Until every member shows all nsqds for the last topic: registrations of one session take
    /// effect in order.
    async fn wait_for_the_last_topic(&self, target: &Target) -> Result<()> {
        let target_path = lookup_path(&topic(self.size.topics() - 1));
        for member in target.spread() {
            let what = format!("{} to show all nsqds", member.http);
            wait_until(&what, || async {
                let answer = crate::clients::http::fetch_once(member.http, &target_path).await;
                answer.is_ok_and(|(_, body)| producers(&body) == self.size.nsqds())
            })
            .await?;
        }
        Ok(())
    }
}

/// Each session registers all that an nsqd has; all at the same time.
async fn register_all(sessions: Vec<Session>, size: Size) -> Result<(Vec<Session>, Registered)> {
    let registrations_of_all = sessions.len() * size.registrations_of_an_nsqd();
    let began = Instant::now();
    let work = sessions.into_iter().map(|mut session| async move {
        let unavailable = session.pipeline(registrations(size)).await?;
        Ok((session, unavailable))
    });
    let ended = load::together(work).await?;
    let took = began.elapsed();
    let (sessions, unavailable): (Vec<Session>, Vec<usize>) = ended.into_iter().unzip();
    let registered = Registered {
        registrations: registrations_of_all,
        took,
        unavailable: unavailable.into_iter().sum(),
    };
    Ok((sessions, registered))
}

/// The target of a default lookup.
pub(crate) fn lookup_path(topic: &str) -> String {
    format!("/lookup?topic={topic}")
}

/// How many producers an answer lists.
pub(crate) fn producers(answer: &[u8]) -> usize {
    let key = b"\"broadcast_address\"";
    answer
        .windows(key.len())
        .filter(|window| window == key)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_is_registered_once() {
        let lines: Vec<String> = registrations(Size::Small).collect();
        assert_eq!(lines.len(), 20);
        assert_eq!(lines[0], "REGISTER topic-00000 channel-0");
        assert_eq!(lines[19], "REGISTER topic-00009 channel-1");
    }

    #[test]
    fn producers_are_counted() {
        let one = br#"{"broadcast_address":"a","tcp_port":4150}"#;
        let two = [&one[..], one].concat();
        assert_eq!(producers(one), 1);
        assert_eq!(producers(&two), 2);
        assert_eq!(producers(br#"{"producers":[]}"#), 0);
    }
}
