//! The table of paths.

use axum::http::Method;

use crate::context::Context;
use crate::http::answer::Answer;
use crate::http::client::Client;
use crate::http::error::HttpError;
use crate::http::query::Query;
use crate::http::read::Consistency;
use crate::http::{admin, log_level, lookup, pprof, status};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Ping,
    Info,
    Topics,
    Channels,
    Lookup,
    Nodes,
    Debug,
    CreateTopic,
    DeleteTopic,
    CreateChannel,
    DeleteChannel,
    TombstoneTopic,
    ClusterStatus,
    Metrics,
    LogLevel,
    Profiles,
    CommandLine,
    CpuProfile,
    HeapProfile,
}

/// What an endpoint may read of a request.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) client: &'a Client,
    pub(super) method: &'a Method,
    pub(super) query: &'a str,
    /// As much as was kept of it.
    pub(super) body: &'a [u8],
}

const GET: &str = "GET, OPTIONS";
const POST: &str = "OPTIONS, POST";
const GET_PUT: &str = "GET, OPTIONS, PUT";
/// Of `*`, as upstream's.
const ALL: &str = "GET, OPTIONS, POST";

/// Path, methods (as in `Allow`), endpoint. The last rows are not upstream's.
const ROUTES: [(&str, &str, Endpoint); 19] = [
    ("/ping", GET, Endpoint::Ping),
    ("/info", GET, Endpoint::Info),
    ("/topics", GET, Endpoint::Topics),
    ("/channels", GET, Endpoint::Channels),
    ("/lookup", GET, Endpoint::Lookup),
    ("/nodes", GET, Endpoint::Nodes),
    ("/debug", GET, Endpoint::Debug),
    ("/topic/create", POST, Endpoint::CreateTopic),
    ("/topic/delete", POST, Endpoint::DeleteTopic),
    ("/channel/create", POST, Endpoint::CreateChannel),
    ("/channel/delete", POST, Endpoint::DeleteChannel),
    ("/topic/tombstone", POST, Endpoint::TombstoneTopic),
    ("/cluster/status", GET, Endpoint::ClusterStatus),
    ("/metrics", GET, Endpoint::Metrics),
    ("/config/log_level", GET_PUT, Endpoint::LogLevel),
    ("/debug/pprof", GET, Endpoint::Profiles),
    ("/debug/pprof/cmdline", GET, Endpoint::CommandLine),
    ("/debug/pprof/profile", GET, Endpoint::CpuProfile),
    ("/debug/pprof/heap", GET, Endpoint::HeapProfile),
];

/// Where a request leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Endpoint(Endpoint),
    /// OPTIONS: the methods there are; none of `*`.
    Options(&'static str),
    /// Another method: the methods there are.
    OtherMethod(&'static str),
    /// The path is written in another way: a slash at its end, `//`, `..`, upper case.
    Redirect(String),
    Nothing,
}

/// Where a request for this path leads, which is decoded.
pub(super) fn find(method: &Method, path: &str) -> Found {
    if path == "*" {
        return match *method {
            Method::OPTIONS => Found::Options(""),
            _ => Found::OtherMethod(ALL),
        };
    }
    let route = |path: &str| ROUTES.iter().find(|(known, _, _)| *known == path);
    if let Some((_, allow, endpoint)) = route(path) {
        return match method {
            &Method::OPTIONS => Found::Options(allow),
            method if fits(method, allow) => Found::Endpoint(*endpoint),
            _ => Found::OtherMethod(allow),
        };
    }
    let cleaned = clean(path);
    match route(&cleaned) {
        Some((_, allow, _)) if fits(method, allow) => Found::Redirect(cleaned),
        _ => Found::Nothing,
    }
}

fn fits(method: &Method, allow: &str) -> bool {
    allow.split(", ").any(|allowed| allowed == method.as_str()) && method != Method::OPTIONS
}

/// The path as it is meant: without empty, `.` and `..` segments, in lower case.
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

impl Endpoint {
    /// The path that leads here.
    pub(super) fn path(self) -> &'static str {
        let route = ROUTES.iter().find(|(_, _, endpoint)| *endpoint == self);
        route.map_or("", |(path, _, _)| path)
    }

    /// # Errors
    /// Whatever is to be answered instead.
    pub(super) async fn answer(
        self,
        context: &Context,
        asked: Asked<'_>,
    ) -> Result<Answer, HttpError> {
        let (client, query) = (asked.client, asked.query);
        // Where no argument is read, a query that cannot be read does no harm.
        let lenient = || Query::parse(query).ok();
        match self {
            Endpoint::Ping => Ok(Answer::text("OK")),
            Endpoint::Info => lookup::info(context),
            Endpoint::Topics => lookup::topics(context, client, Consistency::of(lenient())?).await,
            Endpoint::Nodes => lookup::nodes(context, client, Consistency::of(lenient())?).await,
            Endpoint::Debug => lookup::debug(context, client, Consistency::of(lenient())?).await,
            Endpoint::Channels => lookup::channels(context, client, &Query::parse(query)?).await,
            Endpoint::Lookup => lookup::lookup(context, client, &Query::parse(query)?).await,
            Endpoint::CreateTopic => admin::create_topic(context, &Query::parse(query)?).await,
            Endpoint::DeleteTopic => admin::delete_topic(context, &Query::parse(query)?).await,
            Endpoint::CreateChannel => admin::create_channel(context, &Query::parse(query)?).await,
            Endpoint::DeleteChannel => admin::delete_channel(context, &Query::parse(query)?).await,
            Endpoint::TombstoneTopic => admin::tombstone(context, &Query::parse(query)?).await,
            Endpoint::ClusterStatus => status::cluster_status(context).await,
            Endpoint::Metrics => Ok(status::metrics(context)),
            Endpoint::LogLevel if asked.method == Method::PUT => {
                log_level::change(context, asked.body)
            }
            Endpoint::LogLevel => log_level::show(context),
            Endpoint::Profiles => Ok(pprof::index()),
            Endpoint::CommandLine => Ok(pprof::cmdline()),
            Endpoint::CpuProfile => pprof::profile(&Query::parse(query)?, client).await,
            Endpoint::HeapProfile => pprof::heap().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_find_their_way() {
        for (method, path, expected) in [
            ("GET", "/ping", Found::Endpoint(Endpoint::Ping)),
            ("HEAD", "/ping", Found::OtherMethod(GET)),
            ("OPTIONS", "/ping", Found::Options(GET)),
            ("OPTIONS", "*", Found::Options("")),
            ("POST", "*", Found::OtherMethod(ALL)),
            ("GET", "/topic/create", Found::OtherMethod(POST)),
            (
                "POST",
                "/topic/create",
                Found::Endpoint(Endpoint::CreateTopic),
            ),
            ("GET", "/lookup/", Found::Redirect("/lookup".into())),
            ("GET", "//Lookup", Found::Redirect("/lookup".into())),
            ("GET", "/x/../nodes", Found::Redirect("/nodes".into())),
            ("POST", "/ping/", Found::Nothing),
            ("GET", "/topic/create/", Found::Nothing),
            ("GET", "/", Found::Nothing),
            ("GET", "/nothing", Found::Nothing),
            (
                "PUT",
                "/config/log_level",
                Found::Endpoint(Endpoint::LogLevel),
            ),
            ("POST", "/config/log_level", Found::OtherMethod(GET_PUT)),
            ("GET", "/debug/pprof", Found::Endpoint(Endpoint::Profiles)),
            (
                "GET",
                "/debug/pprof/",
                Found::Redirect("/debug/pprof".into()),
            ),
            ("POST", "/debug/pprof/cmdline", Found::OtherMethod(GET)),
            ("GET", "/debug/pprof/goroutine", Found::Nothing),
            ("POST", "/debug/pprof/symbol", Found::Nothing),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(find(&method, path), expected, "{method} {path}");
        }
    }
}
