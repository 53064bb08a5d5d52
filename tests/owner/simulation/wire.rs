//! Connections between clients and members: nothing overtakes on one, and each end may lose it
//! without the other's knowing.

use std::collections::VecDeque;

use raftlookupd::nsqd::owner::{Reply, SessionId, Verdict};
use raftlookupd_raft::storage::registration::PeerInfo;

use super::names::Name;
use super::node::Held;
use super::words::{Said, Words};
use super::world::{ConnectionId, Process, TIMEOUT, Time, What, World, trace};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// An nsqd, and which of its lookupds.
    Nsqd(usize, usize),
    Stranger(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Identify,
    Register(Name),
    Unregister(Name),
    Ping,
    /// The client says no more.
    End,
}

impl std::fmt::Display for Command {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Command::Identify => out.write_str("IDENTIFY"),
            Command::Register(name) => write!(out, "REGISTER {name}"),
            Command::Unregister(name) => write!(out, "UNREGISTER {name}"),
            Command::Ping => out.write_str("PING"),
            Command::End => out.write_str("its end"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Message {
    pub number: u32,
    pub command: Command,
}

pub struct Connection {
    pub client: Client,
    pub producer: usize,
    pub place: usize,
    /// The process it leads to.
    pub process: Process,
    /// The client has it.
    pub at_client: bool,
    /// The member has it.
    pub at_server: bool,
    pub session: Option<SessionId>,
    pub opened: Time,
    pub heard: Time,
    pub pinged: bool,
    /// What the session has said.
    pub words: Words,
    /// When that changed last.
    pub changed: Time,
    pub sent: u32,
    arrived: Time,
    inbox: VecDeque<Message>,
    /// Commands that are not answered, with their time.
    waiting: VecDeque<(Message, Time)>,
}

/// How long a command may take at a member.
const LATEST: Time = 1_050;

impl World {
    /// The client connects; whether there is a process.
    pub fn connect(
        &mut self,
        client: Client,
        producer: usize,
        place: usize,
    ) -> Option<ConnectionId> {
        if !self.nodes[place].up {
            return None;
        }
        self.connections.push(Connection {
            client,
            producer,
            place,
            process: self.process(place),
            at_client: true,
            at_server: true,
            session: None,
            opened: self.now,
            heard: self.now,
            pinged: false,
            words: Words::default(),
            changed: self.now,
            sent: 0,
            arrived: self.now,
            inbox: VecDeque::new(),
            waiting: VecDeque::new(),
        });
        let connection = self.connections.len() - 1;
        self.open.push(connection);
        Some(connection)
    }

    /// The client sends a command; it arrives after this time, and after all before it.
    pub fn send(&mut self, connection: ConnectionId, command: Command, time: Time) -> u32 {
        let sending = &mut self.connections[connection];
        sending.sent += 1;
        let number = sending.sent;
        sending.arrived = sending.arrived.max(self.now + time);
        let time = sending.arrived - self.now;
        self.after(time, What::Arrive(connection, Message { number, command }));
        number
    }

    pub fn arrive(&mut self, connection: ConnectionId, message: Message) {
        let receiving = &mut self.connections[connection];
        if !receiving.at_server {
            self.after(1, What::Answer(connection, message.number, false));
            return;
        }
        receiving.inbox.push_back(message);
        let process = receiving.process;
        self.after(0, What::Receive(process, connection));
    }

    /// The client gives the connection up. The member learns of it after this time, if at all.
    pub fn hang_up(&mut self, connection: ConnectionId, noticed: Option<Time>) {
        let lost = &mut self.connections[connection];
        if std::mem::take(&mut lost.at_client) {
            lost.words.retract();
            if let Some(time) = noticed {
                self.send(connection, Command::End, time);
            }
        }
    }

    /// The member's end is gone.
    pub fn lose_server_side(&mut self, connection: ConnectionId) {
        let lost = &mut self.connections[connection];
        if !std::mem::take(&mut lost.at_server) {
            return;
        }
        lost.session = None;
        lost.inbox.clear();
        lost.changed = self.now;
        let waiting = std::mem::take(&mut lost.waiting);
        for (message, _) in waiting {
            self.after(1, What::Answer(connection, message.number, false));
        }
        self.watched
            .session_ended(&self.connections[connection], self.now);
        self.open.retain(|open| *open != connection);
    }

    /// The member does what has arrived, as far as it may.
    pub fn receive(&mut self, place: usize, connection: ConnectionId) {
        loop {
            let receiving = &mut self.connections[connection];
            let waits = receiving.waiting.back().map(|(message, _)| message.command);
            let exclusive = matches!(waits, Some(Command::Identify | Command::Unregister(_)));
            let Some(next) = receiving.inbox.front().copied() else {
                return;
            };
            let ordered = matches!(next.command, Command::Unregister(_) | Command::End);
            if !receiving.at_server || exclusive || (ordered && waits.is_some()) {
                return;
            }
            receiving.inbox.pop_front();
            self.obey(place, connection, next);
        }
    }

    fn obey(&mut self, place: usize, connection: ConnectionId, message: Message) {
        let now = self.time_at(place);
        let can_commit = self.can_commit(place);
        let time = self.now;
        let receiving = &mut self.connections[connection];
        let number = Some(message.number);
        let held = Held {
            connection,
            number,
            until: 0,
        };
        if message.command == Command::Identify {
            receiving.waiting.push_back((message, time));
            receiving.opened = time;
            receiving.heard = time;
            receiving.changed = time;
            let producer = (*self.producers[receiving.producer]).clone();
            let info = PeerInfo {
                hostname: producer.broadcast_address.clone(),
                http_port: 4151,
                ..PeerInfo::default()
            };
            let remote = format!("10.0.0.1:{connection}");
            let node = &mut self.nodes[place];
            let owner = &mut node.member.owner;
            let (session, reply) = owner.identify(now, producer, info, remote, can_commit);
            receiving.session = Some(session);
            node.sessions.insert(session, connection);
            self.watched
                .session_began(&self.connections[connection], time);
            trace!(
                self,
                "connection {connection} is a session of h{} at m{}",
                self.connections[connection].producer,
                place + 1
            );
            self.carry_out(place);
            self.follow(place, held, reply);
            return;
        }
        let Some(session) = receiving.session else {
            if message.command == Command::End {
                self.lose_server_side(connection);
            }
            return;
        };
        let member = &mut self.nodes[place].member;
        let (owner, db) = (&mut member.owner, member.db.as_ref());
        let reply = match message.command {
            Command::Identify => return,
            Command::End => {
                trace!(self, "connection {connection} ends");
                let held = Held {
                    number: None,
                    ..held
                };
                self.nodes[place].sessions.remove(&session);
                self.connections[connection].session = None;
                let reply = self.nodes[place]
                    .member
                    .owner
                    .close(now, session, can_commit);
                self.carry_out(place);
                self.lose_server_side(connection);
                self.follow(place, held, reply);
                return;
            }
            Command::Ping => {
                let silent = receiving.heard + TIMEOUT < time;
                receiving.heard = time;
                let first = !std::mem::replace(&mut receiving.pinged, true);
                self.watched.session_pinged(receiving, member.incarnation);
                if first || silent {
                    receiving.changed = time;
                }
                receiving.waiting.push_back((message, time));
                owner.ping(now, session, can_commit)
            }
            Command::Register(name) => {
                let (id, producer) = (member.id, &self.producers[receiving.producer]);
                let recorded = |name: Name| {
                    let (topic, channel) = (name.topic_text(), name.channel_text());
                    self.log.registry.is_recorded(id, producer, topic, channel)
                };
                receiving.words.register(name, recorded);
                receiving.changed = time;
                receiving.waiting.push_back((message, time));
                let (topic, channel) = (name.topic_text(), name.channel_text());
                owner.register(now, session, topic, channel, db, can_commit)
            }
            Command::Unregister(name) => {
                receiving.words.unregister(name);
                receiving.changed = time;
                receiving.waiting.push_back((message, time));
                let (topic, channel) = (name.topic_text(), name.channel_text());
                owner.unregister(now, session, topic, channel, db, can_commit)
            }
        };
        if reply != Reply::Now(Verdict::Done) {
            let command = message.command;
            trace!(self, "connection {connection}: {command} -> {reply:?}");
        }
        self.carry_out(place);
        self.follow(place, held, reply);
    }

    /// The member answers a command.
    pub fn answer(&mut self, held: Held, verdict: Verdict) {
        let Some(number) = held.number else {
            return;
        };
        let connection = held.connection;
        let answering = &mut self.connections[connection];
        let place = answering
            .waiting
            .iter()
            .position(|(message, _)| message.number == number);
        let Some((message, since)) = place.and_then(|place| answering.waiting.remove(place)) else {
            return;
        };
        if message.command != Command::Ping {
            let command = message.command;
            trace!(
                self,
                "connection {connection}: {command} is answered {verdict:?}"
            );
        }
        let took = self.now - since;
        let resumed = self.nodes[self.connections[connection].place].resumed;
        if took > LATEST && resumed < since {
            self.violate("slow", format!("{} took {took} ms", message.command));
        }
        match message.command {
            Command::Register(name) if verdict == Verdict::Done => {
                // One that came behind it counts.
                let later = self.connections[connection].waiting.iter();
                let mut later = later.filter(|(other, _)| other.number > number);
                let again = later.any(
                    |(other, _)| matches!(other.command, Command::Register(same) if same == name),
                );
                if self.connections[connection].words.of(name).said != Said::No && !again {
                    self.promise(connection, name);
                }
            }
            Command::Unregister(name) if verdict == Verdict::Done => {
                self.check_withdrawn(connection, name);
            }
            _ => {}
        }
        self.after(1, What::Answer(connection, number, true));
        let process = self.connections[connection].process;
        self.after(0, What::Receive(process, connection));
    }
}
