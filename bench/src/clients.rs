//! Clients that cost as little as possible: they share the machine with what they measure.

pub(crate) mod etcd;
pub(crate) mod http;
pub(crate) mod response;
pub(crate) mod v1;

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::error::{Error, Result};

/// A connection that sends at once what it is given.
async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let connected = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let what = format!("connect to {address}");
    connected.await.map_err(Error::io(what))
}
