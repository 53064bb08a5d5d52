//! Polls the members for their view of the cluster.
//!
//! That also finds members started by hand, whose output and pid we do not have.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The target of the requests; its query marks the lines that they cause in the members' logs.
pub(super) const STATUS_TARGET: &str = "/cluster/status?for=dev";

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_millis(250);

/// The deadline for one response.
const ANSWER: Duration = Duration::from_secs(1);

/// What is observed of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// It does not respond.
    Gone,
    /// It responds, but has no view yet.
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

/// Sends observations, in the members' order, until the receiver is gone.
pub(super) async fn watch(http_ports: Vec<u16>, seen: mpsc::Sender<Vec<Sight>>) {
    // A new connection each time: a kept one would not show that a member was restarted.
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
