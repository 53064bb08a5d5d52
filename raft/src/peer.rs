//! Carries requests and responses between members: the only thing that crosses machines.
//!
//! - `message`: what members ask each other.
//! - `handshake`: who is at the two ends of a connection, agreed before anything else is read.
//! - `lineage`: whether a data path has what it once promised; `acquaintances`: which process speaks
//!   for each of the other members.
//! - `speakers`: finds out which process speaks for a member, by dialling back.
//! - `frames`: numbered requests and responses on a connection.
//! - `connection`: one connection, from dialling on.
//! - `pool`: connections to peers, for long and for short messages.
//! - `client`: calls a peer, with a deadline.
//! - `server`: answers peers; `seats` bounds the connections.

pub(crate) mod acquaintances;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod frames;
pub(crate) mod handshake;
pub(crate) mod lineage;
pub(crate) mod message;
pub(crate) mod pool;
pub(crate) mod rate_limit;
pub(crate) mod seats;
pub(crate) mod server;
pub(crate) mod speakers;
