//! What nsqds speak to: V1 over TCP, and what their sessions register.
//!
//! - `server` accepts connections, `connection` moves bytes between one socket and a protocol
//!   session.
//! - [`protocol`] is that session: bytes in, commands out. PURE.
//! - [`owner`] knows what all sessions of this member want registered, compares it with what the
//!   registry records, and proposes the difference. PURE.
//! - `keeper` puts the owner between connections and the registry.

pub(crate) mod connection;
pub(crate) mod keeper;
pub mod owner;
pub mod protocol;
pub(crate) mod server;
