//! Asks the members, again and again, how they see the cluster.
//!
//! Asking also finds a member that somebody started by hand; its log and its pid are not ours.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What is asked for; the query marks the lines of the members' logs that this causes.
pub(super) const STATUS_TARGET: &str = "/cluster/status?for=dev";

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(250);

/// For one answer.
const ANSWER: Duration = Duration::from_secs(1);

/// What one member shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// It does not answer.
    Gone,
    /// It answers, but has no view yet.
    Loading,
    /// Its view of the cluster.
    Up(View),
}

/// How one member sees the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct View {
    pub(super) id: u64,
    pub(super) leader: Option<u64>,
    pub(super) term: u64,
}

/// Sends what is seen, in the members' order, until nobody wants to know.
pub(super) async fn watch(http_ports: Vec<u16>, seen: mpsc::Sender<Vec<Sight>>) {
    // A new connection each time: one that is kept says nothing about a member started anew.
    let client = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(ANSWER)
        .build();
    let Ok(client) = client else {
        return;
    };
    loop {
        let mut questions = JoinSet::new();
        for (index, port) in http_ports.iter().copied().enumerate() {
            let client = client.clone();
            questions.spawn(async move { (index, ask(&client, port).await) });
        }
        let mut answers = questions.join_all().await;
        answers.sort_by_key(|(index, _)| *index);
        let sights = answers.into_iter().map(|(_, sight)| sight);
        if seen.send(sights.collect()).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(client: &reqwest::Client, port: u16) -> Sight {
    let url = format!("http://127.0.0.1:{port}{STATUS_TARGET}");
    let Ok(answer) = client.get(url).send().await else {
        return Sight::Gone;
    };
    let Ok(body) = answer.bytes().await else {
        return Sight::Gone;
    };
    match serde_json::from_slice(&body) {
        Ok(view) => Sight::Up(view),
        Err(_) => Sight::Loading,
    }
}
