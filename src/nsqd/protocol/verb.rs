//! Names the two commands that register. PURE.

use std::fmt;

/// The two commands that name a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The nsqd has the name.
    Register,
    /// It no longer has it.
    Unregister,
}

impl fmt::Display for Verb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Verb::Register => "REGISTER",
            Verb::Unregister => "UNREGISTER",
        })
    }
}
