//! Maps paths and methods to handlers, and answers what has none as nsqlookupd does.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::Method;
use axum::http::uri::{PathAndQuery, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use tower::ServiceExt;

use crate::http::answer::Answer;
use crate::http::arguments::unescape_path;
use crate::http::context::Shared;
use crate::http::error::HttpError;
use crate::http::handlers::{changes, cluster, lists, log_level, lookup, pprof, status};

/// Values of `Allow`.
const GET: &str = "GET, OPTIONS";
const POST: &str = "OPTIONS, POST";
const GET_PUT: &str = "GET, OPTIONS, PUT";
/// Of `*`, which stands for the server as a whole.
const ALL: &str = "GET, OPTIONS, POST";

/// What each path allows.
#[derive(Debug, Default)]
pub(super) struct Paths(BTreeMap<&'static str, &'static str>);

/// Routes, and what their paths allow.
#[derive(Default)]
struct Routes {
    router: Router<Shared>,
    paths: Paths,
}

/// All endpoints of a member, and their paths.
pub(super) fn router(context: Shared) -> (Router, Arc<Paths>) {
    let Routes { router, paths } = Routes::default()
        .get("/ping", status::ping)
        .get("/info", status::info)
        .get("/lookup", lookup::lookup)
        .get("/topics", lists::topics)
        .get("/channels", lists::channels)
        .get("/nodes", lists::nodes)
        .get("/debug", lists::debug)
        .post("/topic/create", changes::create_topic)
        .post("/topic/delete", changes::delete_topic)
        .post("/channel/create", changes::create_channel)
        .post("/channel/delete", changes::delete_channel)
        .post("/topic/tombstone", changes::tombstone)
        .get("/debug/pprof", pprof::index)
        .get("/debug/pprof/cmdline", pprof::cmdline)
        .get("/debug/pprof/profile", pprof::profile)
        .get("/debug/pprof/heap", pprof::heap)
        // nsqlookupd does not have these.
        .get("/cluster/status", status::cluster_status)
        .get("/cluster/members", cluster::members)
        .post("/cluster/add", cluster::add)
        .post("/cluster/remove", cluster::remove)
        .post("/cluster/transfer-leader", cluster::transfer_leader)
        .get("/metrics", status::metrics)
        .get_put("/config/log_level", log_level::show, log_level::change);
    let (router, paths) = (router.with_state(context), Arc::new(paths));
    let (endpoints, known) = (router.clone(), paths.clone());
    let router = router.fallback(move |request: Request| elsewhere(endpoints, known, request));
    (router, paths)
}

impl Routes {
    fn get<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        self.route(path, GET, routing::get(handler))
    }

    fn post<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        self.route(path, POST, routing::post(handler))
    }

    fn get_put<G, P, T, U>(self, path: &'static str, get: G, put: P) -> Self
    where
        G: Handler<T, Shared>,
        P: Handler<U, Shared>,
        T: 'static,
        U: 'static,
    {
        self.route(path, GET_PUT, routing::get(get).put(put))
    }

    fn route(
        mut self,
        path: &'static str,
        allow: &'static str,
        methods: MethodRouter<Shared>,
    ) -> Self {
        let refused = move || ready(HttpError::MethodNotAllowed(allow));
        // axum would answer HEAD with the handler of GET; nsqlookupd refuses it.
        let methods = methods
            .head(refused)
            .options(move || ready(Answer::options(allow)))
            .fallback(refused);
        self.router = self.router.route(path, methods);
        self.paths.0.insert(path, allow);
        self
    }
}

impl Paths {
    /// The path as a label of metrics, which must not be whatever clients send.
    pub(super) fn label(&self, path: &str) -> &'static str {
        let known = self.0.get_key_value(path);
        known.map_or("other", |(path, _)| path)
    }

    fn allows(&self, method: &Method, path: &str) -> bool {
        let mut allowed = self
            .0
            .get(path)
            .into_iter()
            .flat_map(|allow| allow.split(", "));
        method != Method::OPTIONS && allowed.any(|allowed| allowed == method.as_str())
    }
}

/// Answers a request whose path is no endpoint as it is written: it may have escapes, which are
/// read, or a slash at its end, `//`, `..` or upper case, which are redirected.
async fn elsewhere(
    endpoints: Router,
    paths: Arc<Paths>,
    mut request: Request,
) -> Result<Response, HttpError> {
    let (method, uri) = (request.method(), request.uri());
    if uri.path() == "*" {
        return match *method {
            Method::OPTIONS => Ok(Answer::options("").into_response()),
            _ => Err(HttpError::MethodNotAllowed(ALL)),
        };
    }
    let path = unescape_path(uri.path())?;
    if paths.0.contains_key(&*path) {
        *request.uri_mut() = at(&path, uri.query())?;
        let Ok(response) = endpoints.oneshot(request).await;
        return Ok(response);
    }
    let cleaned = clean(&path);
    if !paths.allows(method, &cleaned) {
        return Err(HttpError::NotFound);
    }
    let location = at(&cleaned, uri.query())?;
    Ok(Answer::redirect(method, &location.to_string()).into_response())
}

/// # Errors
/// Never for the path of an endpoint and a query that was received.
fn at(path: &str, query: Option<&str>) -> Result<Uri, HttpError> {
    let target = match query {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    target.map(Uri::from).map_err(|_| HttpError::InvalidRequest)
}

/// The path without empty, `.` and `..` segments, in lower case.
fn clean(path: &str) -> String {
    let mut segments: Vec<String> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment.to_ascii_lowercase()),
        }
    }
    format!("/{}", segments.join("/"))
}
