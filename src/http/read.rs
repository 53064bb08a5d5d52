//! How fresh a read must be, and what happens when it cannot be.

use std::time::{Duration, Instant};

use raftlookupd_raft::Registry;
use raftlookupd_raft::storage::registration_db::{Lifetimes, RegistrationDb};

use crate::context::Context;
use crate::http::answer::Answer;
use crate::http::client::Client;
use crate::http::error::HttpError;
use crate::http::long_answers::{Page, Scope};
use crate::http::query::Query;

/// How long a read waits for a quorum: longer than an election takes, and with what it takes to
/// answer no longer than a second.
pub(super) const BARRIER: Duration = Duration::from_millis(900);

/// What a reader asks for with `?consistency=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consistency {
    /// Linearizable if there is a quorum, otherwise stale, and marked so.
    Default,
    /// Linearizable or an error.
    Linearizable,
    /// What this member knows.
    Stale,
}

impl Consistency {
    /// # Errors
    /// [`HttpError::InvalidArg`] for any other word.
    pub(super) fn of(query: Option<Query>) -> Result<Consistency, HttpError> {
        query
            .as_ref()
            .map_or(Ok(Consistency::Default), Consistency::in_query)
    }

    /// # Errors
    /// [`HttpError::InvalidArg`] for any other word.
    pub(super) fn in_query(query: &Query) -> Result<Consistency, HttpError> {
        match query.get("consistency") {
            None => Ok(Consistency::Default),
            Some("linearizable") => Ok(Consistency::Linearizable),
            Some("stale") => Ok(Consistency::Stale),
            Some(_) => Err(HttpError::InvalidArg("CONSISTENCY")),
        }
    }
}

/// A registry that is as fresh as was asked for and is possible.
pub(super) struct Fresh {
    registry: Registry,
    lifetimes: Lifetimes,
    /// Set if it is not known to be fresh.
    staleness: Option<Duration>,
}

/// Makes a barrier, if one was asked for, at most this long.
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
