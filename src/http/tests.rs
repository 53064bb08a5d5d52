//! Tests the interface without sockets or a registry: routes, limits, what is counted.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use crate::accept::Slots;
use axum::body::Body;
use axum::http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::time::Duration;
use tokio::net::TcpStream;

use super::*;
use crate::http::long_answers::LongAnswers;
use crate::logging::{LogLevel, LogSettings};
use crate::metrics::Metrics;
use crate::nsqd::keeper::Keeper;

/// A member that never loads, and a client.
struct Member {
    interface: Interface,
    client: Client,
    _connection: (Arc<TcpStream>, TcpStream),
    _registry: watch::Sender<Option<raftlookupd_raft::Registry>>,
}

impl Member {
    async fn new() -> Member {
        let quiet = LogSettings {
            level: LogLevel::Fatal,
            ..LogSettings::default()
        };
        let (log, _) = quiet.start();
        let (loaded, registry) = watch::channel(None);
        let metrics = Arc::new(Metrics::new());
        let timeout = Duration::from_secs(300);
        let context = Context {
            inactive_producer_timeout: timeout,
            tombstone_lifetime: Duration::from_secs(45),
            tcp_slots: Slots::new(1),
            http_slots: Slots::new(1),
            log,
            metrics: metrics.clone(),
            long_answers: LongAnswers::default(),
            keeper: Keeper::new(timeout, registry.clone(), metrics),
            registry,
        };
        let (client, server, peer) = Client::connected().await;
        Member {
            interface: Interface::new(Arc::new(context)),
            client,
            _connection: (server, peer),
            _registry: loaded,
        }
    }

    async fn request(&self, method: &str, target: &str, body: Body) -> Reply {
        let request = Request::builder().method(method).uri(target);
        let request = request.body(body).unwrap();
        let answer = self.interface.clone().answer(request, self.client.clone());
        let (head, body) = answer.await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body.into()).unwrap(),
        }
    }
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| std::str::from_utf8(value.as_bytes()).unwrap())
    }
}

/// The endpoints that read, and those that write.
const READS: [&str; 14] = [
    "/ping",
    "/info",
    "/lookup",
    "/topics",
    "/channels",
    "/nodes",
    "/debug",
    "/debug/pprof",
    "/debug/pprof/cmdline",
    "/debug/pprof/profile",
    "/debug/pprof/heap",
    "/cluster/status",
    "/cluster/members",
    "/metrics",
];
const WRITES: [&str; 8] = [
    "/topic/create",
    "/topic/delete",
    "/topic/tombstone",
    "/channel/create",
    "/channel/delete",
    "/cluster/add",
    "/cluster/remove",
    "/cluster/transfer-leader",
];

#[tokio::test(start_paused = true)]
async fn each_path_has_its_methods() {
    let member = Member::new().await;
    let reads = READS.map(|path| (path, "GET, OPTIONS"));
    let writes = WRITES.map(|path| (path, "OPTIONS, POST"));
    let both = [("/config/log_level", "GET, OPTIONS, PUT")];
    for (path, allow) in reads.into_iter().chain(writes).chain(both) {
        for method in [
            "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "CONNECT", "X",
        ] {
            let reply = member.request(method, path, Body::empty());
            if method == "OPTIONS" {
                let reply = reply.await;
                assert_eq!((reply.status, &*reply.body), (200, ""), "{path}");
                assert_eq!(reply.header("allow"), allow, "{path}");
            } else if !allow.contains(method) {
                let reply = reply.await;
                assert_eq!(reply.status, 405, "{method} {path}");
                assert_eq!(reply.header("allow"), allow, "{method} {path}");
                let body = match method {
                    "HEAD" => "",
                    _ => r#"{"message":"METHOD_NOT_ALLOWED"}"#,
                };
                assert_eq!(reply.body, body, "{method} {path}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_reach_their_handlers() {
    let member = Member::new().await;
    let invalid = r#"{"message":"INVALID_REQUEST"}"#;
    let missing = r#"{"message":"MISSING_ARG_TOPIC"}"#;
    let loading = r#"{"message":"LOADING"}"#;
    for (method, target, status, body) in [
        ("GET", "/ping", 200, "OK"),
        ("GET", "http://elsewhere:1/ping?x=y", 200, "OK"),
        ("GET", "/ping?topic=%zz;", 200, "OK"),
        ("GET", "/p%69ng", 200, "OK"),
        ("GET", "/info", 200, r#"{"version":"1.3.0"}"#),
        ("GET", "/topics", 503, loading),
        ("GET", "/nodes?%zz", 503, loading),
        (
            "GET",
            "/debug?consistency=soon",
            400,
            r#"{"message":"INVALID_ARG_CONSISTENCY"}"#,
        ),
        ("GET", "/lookup", 400, missing),
        ("GET", "/lookup?topic=a;", 400, invalid),
        ("GET", "/lookup?topic=%6frders", 503, loading),
        ("GET", "/%6c%6Fokup?topic=%zz", 400, invalid),
        ("GET", "/channels?channel=a", 400, missing),
        (
            "POST",
            "/topic/create?topic=bad!",
            400,
            r#"{"message":"INVALID_ARG_TOPIC"}"#,
        ),
        ("POST", "/topic%2Fcreate?topic=a", 503, loading),
        ("POST", "/topic/delete?topic=bad!", 200, ""),
        (
            "POST",
            "/topic/tombstone?topic=a",
            400,
            r#"{"message":"MISSING_ARG_NODE"}"#,
        ),
        (
            "POST",
            "/channel/create?topic=a",
            400,
            r#"{"message":"MISSING_ARG_CHANNEL"}"#,
        ),
        ("POST", "/channel/delete?topic=a&channel=b", 503, loading),
        ("GET", "/cluster/status", 503, loading),
        ("GET", "/cluster/members", 503, loading),
        (
            "POST",
            "/cluster/add?name=d&address=host:4162",
            503,
            loading,
        ),
        (
            "POST",
            "/cluster/add?name=d",
            400,
            r#"{"message":"MISSING_ARG_ADDRESS"}"#,
        ),
        (
            "POST",
            "/cluster/add?name=d&address=host",
            400,
            r#"{"message":"INVALID_ARG_ADDRESS"}"#,
        ),
        (
            "POST",
            "/cluster/add?name=d,e&address=host:1",
            400,
            r#"{"message":"INVALID_ARG_NAME"}"#,
        ),
        ("POST", "/cluster/remove?name=d&force", 503, loading),
        (
            "POST",
            "/cluster/remove?name=d&force=maybe",
            400,
            r#"{"message":"INVALID_ARG_FORCE"}"#,
        ),
        ("POST", "/cluster/transfer-leader", 503, loading),
        ("GET", "/config/log_level", 200, "5"),
        (
            "GET",
            "/debug/pprof/profile?seconds=0",
            400,
            "seconds must be a whole number from 1 to 300\n",
        ),
    ] {
        let reply = member.request(method, target, Body::empty()).await;
        assert_eq!((reply.status, &*reply.body), (status, body), "{target}");
    }
}

#[tokio::test]
async fn other_paths_are_redirected_or_not_found() {
    let member = Member::new().await;
    for (method, target, status, location) in [
        (
            "GET",
            "/lookup/?topic=a&x=%20",
            301,
            "/lookup?topic=a&x=%20",
        ),
        ("GET", "/lookup/?x='\\^`{|}é", 301, "/lookup?x='\\^`{|}é"),
        ("GET", "//Lookup", 301, "/lookup"),
        ("GET", "/x/../nodes", 301, "/nodes"),
        ("GET", "/./info", 301, "/info"),
        ("GET", "/P%69ng/", 301, "/ping"),
        ("GET", "/ping%2f", 301, "/ping"),
        ("GET", "/debug/pprof/", 301, "/debug/pprof"),
        (
            "POST",
            "/TOPIC/create?topic=a",
            307,
            "/topic/create?topic=a",
        ),
        ("PUT", "/config/log_level/", 307, "/config/log_level"),
        ("POST", "/ping/", 404, ""),
        ("GET", "/topic/create/", 404, ""),
        ("OPTIONS", "/ping/", 404, ""),
        ("HEAD", "/ping/", 404, ""),
        ("GET", "/", 404, ""),
        ("GET", "http://elsewhere", 404, ""),
        ("GET", "/nothing", 404, ""),
        ("GET", "/lookup/orders", 404, ""),
        ("GET", "/ping%3Fx", 404, ""),
        ("GET", "/ping%00", 404, ""),
        ("GET", "/%FF", 404, ""),
        ("GET", "/debug/pprof/goroutine", 404, ""),
        ("GET", "/ping%zz", 400, ""),
    ] {
        let reply = member.request(method, target, Body::empty()).await;
        assert_eq!(reply.status, status, "{method} {target}");
        assert_eq!(reply.header("location"), location, "{method} {target}");
        match status {
            301 => assert!(reply.body.contains("Moved Permanently"), "{target}"),
            404 if method != "HEAD" => assert_eq!(reply.body, r#"{"message":"NOT_FOUND"}"#),
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_server_as_a_whole() {
    let member = Member::new().await;
    let options = member.request("OPTIONS", "*", Body::empty()).await;
    assert_eq!((options.status, options.header("allow")), (200, ""));
    let get = member.request("GET", "*", Body::empty()).await;
    assert_eq!(get.status, 405);
    assert_eq!(get.header("allow"), "GET, OPTIONS, POST");
}

#[tokio::test]
async fn headers_are_those_of_nsqlookupd() {
    let member = Member::new().await;
    let json = "application/json; charset=utf-8";
    for (target, content_type, nsq) in [
        ("/ping", "text/plain; charset=utf-8", ""),
        ("/info", json, "nsq; version=1.0"),
        ("/lookup", json, "nsq; version=1.0"),
        ("/nothing", json, "nsq; version=1.0"),
        ("/ping/", "text/html; charset=utf-8", ""),
    ] {
        let reply = member.request("GET", target, Body::empty()).await;
        assert_eq!(reply.header("content-type"), content_type, "{target}");
        assert_eq!(reply.header("x-nsq-content-type"), nsq, "{target}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_endpoint() {
    let member = Member::new().await;
    for target in ["/ping", "/ping", "/lookup", "/ping/", "/secret"] {
        member.request("GET", target, Body::empty()).await;
    }
    let text = member.request("GET", "/metrics", Body::empty()).await.body;
    for line in [
        r#"nsqlookup_http_requests_total{path="/ping",code="200"} 2"#,
        r#"nsqlookup_http_requests_total{path="/lookup",code="400"} 1"#,
        r#"nsqlookup_http_requests_total{path="other",code="301"} 1"#,
        r#"nsqlookup_http_requests_total{path="other",code="404"} 1"#,
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
    }
}

/// A body of some length that arrives in pieces, and that may not end.
struct Pieces {
    left: usize,
    ends: bool,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return match self.ends {
                true => Poll::Ready(None),
                false => Poll::Pending,
            };
        }
        let some = self.left.min(1000);
        self.left -= some;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; some])))))
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_are_bounded_in_size_and_time() {
    let member = Member::new().await;
    let mib = 1024 * 1024;
    for (left, ends, status, message) in [
        (mib, true, 200, ""),
        (mib + 1, true, 413, "BODY_TOO_LARGE"),
        (10 * mib, false, 413, "BODY_TOO_LARGE"),
        (0, false, 408, "BODY_TOO_SLOW"),
        (mib, false, 408, "BODY_TOO_SLOW"),
    ] {
        let body = Body::new(Pieces { left, ends });
        let reply = member
            .request("POST", "/topic/delete?topic=bad!", body)
            .await;
        assert_eq!(reply.status, status, "{left}");
        assert!(reply.body.contains(message), "{}", reply.body);
        let closes = reply.header("connection") == "close";
        assert_eq!(closes, status != 200, "{left}");
    }
    let announced = Body::from(vec![0; mib + 1]);
    let reply = member.request("POST", "/topic/delete?topic=bad!", announced);
    assert_eq!(reply.await.status, 413);
}

#[tokio::test]
async fn a_body_is_read_by_one_endpoint_only() {
    let member = Member::new().await;
    let put = |body: &str| {
        let body = Body::from(body.to_string());
        member.request("PUT", "/config/log_level", body)
    };
    assert_eq!(put("Error").await.body, "4");
    assert_eq!(put("fatal").await.body, "5");
    assert_eq!(put("loud").await.status, 400);
    assert_eq!(put("").await.status, 413);
    assert_eq!(put(&"x".repeat(17)).await.status, 413);
    assert_eq!(put(&"x".repeat(1000)).await.status, 413);
    let ignored = Body::from("topic=orders");
    let reply = member.request("POST", "/topic/create", ignored).await;
    assert_eq!(reply.body, r#"{"message":"MISSING_ARG_TOPIC"}"#);
}
