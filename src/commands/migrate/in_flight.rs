//! Sends many requests, a bounded number of them at a time.

use tokio::task::JoinSet;

use crate::error::{Error, Result};

/// Requests in flight. A cluster commits what arrives together in one log entry, so this is what
/// makes an import fast.
const IN_FLIGHT: usize = 32;

/// Works on every item, and passes each result on as it comes.
///
/// # Errors
/// The first one. Nothing is started after it, but requests in flight are waited for.
pub(super) async fn each<I, T, W>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> W,
    mut done: impl FnMut(T) -> Result<()>,
) -> Result<()>
where
    W: Future<Output = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let mut items = items.into_iter();
    let mut under_way = JoinSet::new();
    let mut outcome = Ok(());
    loop {
        while outcome.is_ok()
            && under_way.len() < IN_FLIGHT
            && let Some(item) = items.next()
        {
            under_way.spawn(work(item));
        }
        let Some(ended) = under_way.join_next().await else {
            return outcome;
        };
        let ended = ended.map_err(|_| Error::Ended("a request"));
        outcome = outcome.and(ended.and_then(|ended| ended).and_then(&mut done));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn all_are_done_and_never_too_many_at_once() {
        let under_way = Arc::new(AtomicUsize::new(0));
        let mut sum = 0;
        let work = |number: usize| {
            let under_way = Arc::clone(&under_way);
            async move {
                let others = under_way.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                assert!(others < IN_FLIGHT);
                Ok(number)
            }
        };
        let add = |number| {
            sum += number;
            Ok(())
        };
        each(1..=100, work, add).await.unwrap();
        assert_eq!(sum, 5050);
    }

    #[tokio::test]
    async fn after_an_error_nothing_is_begun() {
        let begun = Arc::new(AtomicUsize::new(0));
        let work = |number: usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            async move {
                match number {
                    1 => Err(Error::Lookupd("first".into())),
                    number => Ok(number),
                }
            }
        };
        let mut done = Vec::new();
        let note = |number| {
            done.push(number);
            Ok(())
        };
        let error = each(0..1000, work, note).await.unwrap_err();
        assert_eq!(error.to_string(), "first");
        let begun = begun.load(Ordering::SeqCst);
        assert!(begun < 1000, "{begun}");
        // Requests in flight are reported.
        assert_eq!(done.len(), begun - 1);
    }
}
