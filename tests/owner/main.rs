//! The owner of a member's sessions and the registry, without sockets and without sleeping: in
//! stories that can be read (`script`), and in a simulation with seeds (`simulation`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects
#![allow(unreachable_pub)] // the modules are a test's, nobody else sees them

mod leader;
mod limits;
mod log;
mod member;
mod script;
mod simulation;
mod text;
