//! Clients that cost as little as possible: they share the machine with what they measure.

pub(crate) mod etcd;
pub(crate) mod http;
pub(crate) mod response;
pub(crate) mod v1;
