//! The owner of a member's sessions, without sockets and without sleeping.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects
#![allow(unreachable_pub)] // the modules are a test's, nobody else sees them

mod leader;
mod log;
mod member;
mod script;
mod simulation;
mod text;
