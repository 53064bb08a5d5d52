//! How fresh a read must be, and what happens when it cannot be.

use std::time::{Duration, Instant};

use raftlookupd_raft::storage::registration_db::{Lifetimes, RegistrationDb};

use crate::context::Context;
use crate::http::answer::Answer;
use crate::http::error::HttpError;
use crate::http::query::Query;

/// How long a read waits for a quorum: longer than an election takes, and with what it takes to
/// answer no longer than a second.
const BARRIER: Duration = Duration::from_millis(900);

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

/// Answers from the registry, as fresh as it was asked for and is possible.
///
/// # Errors
/// [`HttpError::Loading`], [`HttpError::NoQuorum`], and what the query gives.
pub(super) async fn read(
    context: &Context,
    consistency: Consistency,
    query: impl FnOnce(&RegistrationDb, Lifetimes) -> Result<Answer, HttpError>,
) -> Result<Answer, HttpError> {
    read_within(context, consistency, BARRIER, query).await
}

/// The same for an answer that must not come late.
///
/// # Errors
/// As [`read`].
pub(super) async fn read_within(
    context: &Context,
    consistency: Consistency,
    barrier: Duration,
    query: impl FnOnce(&RegistrationDb, Lifetimes) -> Result<Answer, HttpError>,
) -> Result<Answer, HttpError> {
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
    let staleness = stale.then(|| registry.staleness());
    let lifetimes = context.lifetimes(&registry);
    // Errors too are answers that can be stale.
    let answer = registry.read(|db| query(db, lifetimes));
    let answer = answer.unwrap_or_else(Answer::from);
    Ok(match staleness {
        Some(staleness) => answer.stale(staleness),
        None => answer,
    })
}
