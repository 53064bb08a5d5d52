//! Holds the registry as pure data: its values, the events that change it, the rules, the stored
//! forms.
//!
//! Nothing here knows clocks, sockets, threads or disks. In reading order:
//!
//! - [`values`]: what a registration consists of, in upstream's words.
//! - [`event`]: the replicated format: what a log entry carries.
//! - [`db`]: the [`RegistrationDb`](db::RegistrationDb), which applies events and answers queries.
//! - [`rows`]: the registry as ordered keys and small values; their hashes make up the state hash.

pub mod db;
pub mod event;
pub mod rows;
pub mod values;
