//! What is told in the end: to people as tables, to programs as JSON.

pub(crate) mod goals;
pub(crate) mod json;
pub(crate) mod machine;
pub(crate) mod text;
