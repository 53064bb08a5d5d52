//! Clients that do as they please: they register without PING, send several commands at once, fall
//! silent, come back before their old connection ended.

use super::actions::{NSQDS, Weather, Word};
use super::names::Name;
use super::random::Random;
use super::wire::{Client, Command};
use super::world::{ConnectionId, Time, What, World};

const PING: Time = 10_000;

pub struct Stranger {
    pub producer: usize,
    pub connection: Option<ConnectionId>,
    pub pings: bool,
    is_timed: bool,
}

impl Stranger {
    pub fn new(weather: Weather, number: usize) -> Self {
        let mut luck = Random::new(weather.seed, 30 + number as u64);
        let own = NSQDS + number;
        let producer = match (number, weather.twins) {
            (1, true) => luck.pick(&[0, 3, NSQDS]),
            _ => own,
        };
        Stranger {
            producer,
            connection: None,
            pings: false,
            is_timed: false,
        }
    }
}

impl World {
    pub fn open_stranger(&mut self, number: usize, place: usize) {
        if let Some(old) = self.strangers[number].connection.take() {
            // Its end is never seen.
            self.hang_up(old, None);
        }
        let producer = self.strangers[number].producer;
        let connection = self.connect(Client::Stranger(number), producer, place);
        self.strangers[number].connection = connection;
        if let Some(connection) = connection {
            self.send(connection, Command::Identify, 1);
        }
    }

    pub fn stranger_says(&mut self, number: usize, word: Word) {
        let stranger = &mut self.strangers[number];
        let Some(connection) = stranger.connection else {
            return;
        };
        let command = match word {
            Word::Register(name) => Command::Register(name),
            Word::Unregister(name) => Command::Unregister(name),
            Word::Ping => Command::Ping,
            Word::FallSilent => {
                stranger.pings = false;
                return;
            }
            Word::KeepPinging => {
                stranger.pings = true;
                if !std::mem::replace(&mut stranger.is_timed, true) {
                    self.after(PING, What::StrangerPings(number));
                }
                return;
            }
        };
        self.send(connection, command, 1);
    }

    pub fn burst(&mut self, number: usize, name: Name, gives_up: bool, ends: bool) {
        let Some(connection) = self.strangers[number].connection else {
            return;
        };
        self.send(connection, Command::Register(name), 1);
        self.send(connection, Command::Register(name), 1);
        if gives_up {
            self.send(connection, Command::Unregister(name), 1);
        }
        if ends {
            self.end_stranger(number, 1);
        }
    }

    pub fn stranger_pings(&mut self, number: usize) {
        self.after(PING, What::StrangerPings(number));
        let stranger = &self.strangers[number];
        if let Some(connection) = stranger.connection.filter(|_| stranger.pings) {
            self.send(connection, Command::Ping, 1);
        }
    }

    pub fn end_stranger(&mut self, number: usize, noticed: Time) {
        if let Some(connection) = self.strangers[number].connection.take() {
            self.hang_up(connection, Some(noticed));
        }
    }

    pub fn answered(&mut self, connection: ConnectionId, number: u32, open: bool) {
        match self.connections[connection].client {
            Client::Nsqd(nsqd, peer) => self.nsqd_answered(nsqd, peer, connection, number, open),
            Client::Stranger(stranger) => {
                if !open && self.strangers[stranger].connection == Some(connection) {
                    self.strangers[stranger].connection = None;
                    self.connections[connection].at_client = false;
                }
            }
        }
    }

    pub fn impatient(&mut self, connection: ConnectionId, number: u32) {
        if let Client::Nsqd(nsqd, peer) = self.connections[connection].client {
            self.nsqd_impatient(nsqd, peer, connection, number);
        }
    }
}
