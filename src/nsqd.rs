//! Serves nsqds: V1 over TCP, and what their sessions register.
//!
//! - `server` accepts connections, `connection` moves bytes between one socket and a protocol
//!   session; `interface` is what all connections share.
//! - [`protocol`] is that session: bytes in, commands out. PURE.
//! - `keeper` shares the owner between connections and the registry.
//! - [`owner`] knows what all sessions of this member want registered, compares it with what the
//!   registry records, and proposes the difference. PURE.

pub(crate) mod connection;
pub(crate) mod interface;
pub(crate) mod keeper;
pub mod owner;
pub mod protocol;
pub(crate) mod server;
