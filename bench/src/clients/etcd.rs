//! etcd's own gRPC, without the code generator that etcd's clients for Rust need at build time:
//! two calls are all that is measured.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;

use crate::clients::connect;
use crate::error::{Error, Result};

/// The head of a gRPC message: not compressed, and its length.
const HEAD: usize = 5;

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {}

/// Linearizable, unless it is asked not to be.
#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(string, tag = "1")]
    key: String,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(int64, tag = "4")]
    count: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// A client of one member. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
    authority: String,
    /// In gRPC's words.
    deadline: &'static str,
}

impl Client {
    /// # Errors
    /// [`Error::Io`], [`Error::Answer`].
    pub(crate) async fn open(address: SocketAddr) -> Result<Client> {
        let stream = connect(address).await?;
        let (requests, connection) = h2::client::handshake(stream).await.map_err(broken)?;
        // It ends with the last client, or when the connection breaks: the calls say so then.
        tokio::spawn(connection);
        Ok(Client {
            requests,
            authority: address.to_string(),
            deadline: "60S",
        })
    }

    /// Waits no longer for an answer than nsqd does for one of nsqlookupd.
    pub(crate) fn impatient(self) -> Client {
        let deadline = "1S";
        Client { deadline, ..self }
    }

    /// # Errors
    /// [`Error::Answer`], also if there is no quorum.
    pub(crate) async fn put(&mut self, key: String, value: String) -> Result<()> {
        let request = PutRequest { key, value };
        let PutResponse {} = self.call("etcdserverpb.KV/Put", &request).await?;
        Ok(())
    }

    /// Whether there is such a key, linearizably.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub(crate) async fn has(&mut self, key: String) -> Result<bool> {
        let request = RangeRequest { key };
        let response: RangeResponse = self.call("etcdserverpb.KV/Range", &request).await?;
        Ok(response.count > 0)
    }

    /// Whether this member leads.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub(crate) async fn leads(&mut self) -> Result<bool> {
        let method = "etcdserverpb.Maintenance/Status";
        let response: StatusResponse = self.call(method, &StatusRequest {}).await?;
        let header = response.header.unwrap_or_default();
        Ok(response.leader == header.member_id)
    }

    async fn call<T: Message + Default>(
        &mut self,
        method: &str,
        message: &impl Message,
    ) -> Result<T> {
        let request = Request::post(format!("http://{}/{method}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", self.deadline)
            .body(())
            .map_err(|error| Error::Answer(error.to_string()))?;
        let ready = self.requests.clone().ready().await;
        let mut requests = ready.map_err(broken)?;
        let (response, mut body) = requests.send_request(request, false).map_err(broken)?;
        body.send_data(frame(message), true).map_err(broken)?;
        let response = response.await.map_err(broken)?;
        check(response.headers())?;
        let mut body = response.into_body();
        let mut answer = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(broken)?;
            let capacity = body.flow_control().release_capacity(data.len());
            capacity.map_err(broken)?;
            answer.extend_from_slice(&data);
        }
        if let Some(trailers) = body.trailers().await.map_err(broken)? {
            check(&trailers)?;
        }
        let message = answer.get(HEAD..).unwrap_or_default();
        T::decode(message).map_err(|error| Error::Answer(error.to_string()))
    }
}

/// The message as gRPC sends it.
fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(HEAD + length);
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    // Cannot fail: there is room.
    let _ = message.encode(&mut frame);
    frame.freeze()
}

/// gRPC's status stands in the trailers, or in the headers if there is nothing else to say.
fn check(headers: &HeaderMap) -> Result<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(status) => Err(Error::Answer(format!(
            "gRPC status {status}: {}",
            text("grpc-message").unwrap_or_default()
        ))),
    }
}

fn broken(error: h2::Error) -> Error {
    Error::Answer(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_length_in_front() {
        let request = RangeRequest { key: "ab".into() };
        assert_eq!(&frame(&request)[..], b"\0\0\0\0\x04\x0a\x02ab");
        assert_eq!(&frame(&StatusRequest {})[..], b"\0\0\0\0\0");
    }

    #[test]
    fn the_status_is_an_error_unless_it_is_zero() {
        let headers = |status: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", http::HeaderValue::from_static(status));
            headers
        };
        assert!(check(&HeaderMap::new()).is_ok());
        assert!(check(&headers("0")).is_ok());
        let error = check(&headers("14")).unwrap_err();
        assert!(error.to_string().contains("gRPC status 14"), "{error}");
    }
}
