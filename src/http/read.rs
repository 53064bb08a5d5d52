//! Gives a read the registry as fresh as the client wants it, or says that it may be stale.

use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use raftlookupd_raft::Registry;
use raftlookupd_raft::storage::registration_db::{Lifetimes, RegistrationDb};

use crate::http::answer::Answer;
use crate::http::arguments::Arguments;
use crate::http::connection::client::Client;
use crate::http::context::Context;
use crate::http::error::HttpError;
use crate::http::long_answers::{Page, Scope};

/// Deadline of a barrier: longer than an election takes, and short enough to answer within a second.
pub(super) const BARRIER: Duration = Duration::from_millis(900);

/// What a client wants of a read: the argument `consistency`.
///
/// As an extractor it ignores a query that cannot be parsed, since nsqlookupd reads no arguments at
/// the endpoints that use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consistency {
    /// Linearizable if there is a quorum, otherwise stale, and marked so.
    Default,
    /// Linearizable, otherwise an error.
    Linearizable,
    /// What this member knows, without a barrier.
    Stale,
}

impl Consistency {
    /// # Errors
    /// [`HttpError::InvalidArg`] for any other word.
    pub(super) fn of(arguments: &Arguments) -> Result<Consistency, HttpError> {
        match arguments.get("consistency").as_deref() {
            None => Ok(Consistency::Default),
            Some("linearizable") => Ok(Consistency::Linearizable),
            Some("stale") => Ok(Consistency::Stale),
            Some(_) => Err(HttpError::InvalidArg("CONSISTENCY")),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Consistency {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        let Some(query) = parts.uri.query() else {
            return Ok(Consistency::Default);
        };
        let arguments = Arguments::parse(query).ok();
        arguments.map_or(Ok(Consistency::Default), |arguments| {
            Consistency::of(&arguments)
        })
    }
}

/// A registry as fresh as the client wants it and as the cluster allows.
pub(super) struct Fresh {
    registry: Registry,
    lifetimes: Lifetimes,
    /// Set if the registry may miss changes: those of this last time.
    staleness: Option<Duration>,
}

/// Makes a barrier with this deadline, unless the client wants none.
///
/// # Errors
/// [`HttpError::Loading`], [`HttpError::NoQuorum`].
pub(super) async fn fresh(
    context: &Context,
    consistency: Consistency,
    barrier: Duration,
) -> Result<Fresh, HttpError> {
    let started = Instant::now();
    let registry = context.registry().await?;
    let waited = started.elapsed();
    let stale = match consistency {
        Consistency::Stale => true,
        Consistency::Default => {
            let confirmed = registry.barrier(barrier.saturating_sub(waited));
            confirmed.await.is_err()
        }
        Consistency::Linearizable => {
            registry.barrier(BARRIER.saturating_sub(waited)).await?;
            false
        }
    };
    context.metrics.read(match (stale, consistency) {
        (false, _) => "linearizable",
        (true, Consistency::Stale) => "stale",
        (true, _) => "degraded",
    });
    Ok(Fresh {
        staleness: stale.then(|| registry.staleness()),
        lifetimes: context.lifetimes(&registry),
        registry,
    })
}

impl Fresh {
    /// Answers inline, under one read of the registry; `None` if the answer would not be short.
    pub(super) fn short(
        &self,
        is_short: impl FnOnce(&RegistrationDb) -> bool,
        query: impl FnOnce(&RegistrationDb, Lifetimes) -> Result<Answer, HttpError>,
    ) -> Option<Answer> {
        let answer = self
            .registry
            .read(|db| is_short(db).then(|| query(db, self.lifetimes)))?;
        Some(self.marked(answer))
    }

    /// Answers from many short reads of the registry, made on a thread for long answers.
    pub(super) async fn long(
        self,
        (context, client): (&Context, &Client),
        scope: Scope,
        build: impl FnOnce(&Registry, &mut Page, Lifetimes) -> Result<(), HttpError> + Send + 'static,
    ) -> Answer {
        let (registry, lifetimes) = (self.registry.clone(), self.lifetimes);
        let build = move |page: &mut Page| build(&registry, page, lifetimes);
        let built = context.long_answers.build(scope, client, build).await;
        self.marked(built.map(|((), body)| Answer::long(body)))
    }

    /// Errors too are answers that can be stale.
    fn marked(&self, answer: Result<Answer, HttpError>) -> Answer {
        let answer = answer.unwrap_or_else(Answer::from);
        match self.staleness {
            Some(staleness) => answer.stale(staleness),
            None => answer,
        }
    }
}
