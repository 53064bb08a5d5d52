//! One keep-alive HTTP/1.1 connection, one request at a time.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clients::connect;
use crate::clients::response::Response;
use crate::error::{Error, Result};

/// Most answers come in one read.
const READ: usize = 64 * 1024;

/// A connection to one member.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    input: Box<[u8]>,
    response: Response,
}

impl Connection {
    /// # Errors
    /// [`Error::Io`] if nobody listens there.
    pub(crate) async fn open(address: SocketAddr) -> Result<Connection> {
        let stream = connect(address).await?;
        Ok(Connection {
            stream,
            input: vec![0; READ].into(),
            response: Response::new(),
        })
    }

    /// Sends a request as [`get`] makes it and reads the answer, but for the body.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Closed`], [`Error::Answer`].
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<&Response> {
        self.exchange(request, false).await
    }

    /// The same with the body.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub(crate) async fn fetch(&mut self, request: &[u8]) -> Result<&Response> {
        self.exchange(request, true).await
    }

    async fn exchange(&mut self, request: &[u8], keep_body: bool) -> Result<&Response> {
        let wrote = self.stream.write_all(request).await;
        wrote.map_err(Error::io("send a request"))?;
        self.response.begin(keep_body);
        loop {
            let count = self.stream.read(&mut self.input).await;
            let count = count.map_err(Error::io("read an answer"))?;
            if count == 0 {
                return Err(Error::Closed);
            }
            if self.response.feed(&self.input[..count])? {
                return Ok(&self.response);
            }
        }
    }
}

/// The bytes of a GET.
pub(crate) fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes()
}

/// One request on a connection of its own: for what is not measured.
///
/// # Errors
/// As [`Connection::send`].
pub(crate) async fn fetch_once(address: SocketAddr, target: &str) -> Result<(u16, Vec<u8>)> {
    let mut connection = Connection::open(address).await?;
    let response = connection.fetch(&get(target)).await?;
    Ok((response.status(), response.body().to_vec()))
}
