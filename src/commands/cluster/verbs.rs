//! Does what the verbs of `raftlookupd cluster` say.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{Cluster, Output, Verb, Wait};
use super::client::Client;
use super::show::{Member, Members};
use crate::outcome::{Failed, Kind};

/// Between two looks at a member that joins.
const LOOK: Duration = Duration::from_millis(250);

/// Runs a verb. Results go to standard output, progress to standard error.
///
/// # Errors
/// [`Failed`].
pub async fn run(cluster: Cluster) -> Result<(), Failed> {
    let client = Client::new(cluster.endpoints)?;
    let output = cluster.output;
    match cluster.verb {
        Verb::Status => status(&client, output).await,
        Verb::Members => {
            let answer = client.get("/cluster/members").await?;
            let members = Members::parse(&answer)?;
            print(output, &answer, &members.table());
            Ok(())
        }
        Verb::Add {
            name,
            address,
            wait,
        } => add(&client, output, &name, &address, &wait).await,
        Verb::Remove { member, force } => remove(&client, output, &member, force).await,
        Verb::TransferLeader { to } => {
            let arguments: Vec<_> = to.iter().map(|to| ("to", to.as_str())).collect();
            let done = client.post("/cluster/transfer-leader", &arguments).await?;
            print(output, &done, &format!("{} leads\n", named(&done)));
            Ok(())
        }
    }
}

/// Healthy: a quorum answers, and all members follow.
async fn status(client: &Client, output: Output) -> Result<(), Failed> {
    let answer = client.get("/cluster/members").await?;
    let members = Members::parse(&answer)?;
    // An answer that a quorum has confirmed, or none.
    let quorum = client.get_linearizable("/topics").await;
    let mut complaints = match (&quorum, members.leader) {
        (Ok(_), Some(_)) => members.complaints(),
        _ => vec!["there is no leader with a quorum".into()],
    };
    let healthy = complaints.is_empty();
    if healthy {
        complaints.push("healthy".into());
    }
    let mut answer = answer;
    if let Value::Object(fields) = &mut answer {
        fields.insert("healthy".into(), healthy.into());
        let list = if healthy {
            json!([])
        } else {
            json!(complaints)
        };
        fields.insert("complaints".into(), list);
    }
    let text = format!("{}\n{}\n", members.table(), complaints.join("\n"));
    print(output, &answer, &text);
    match (healthy, quorum) {
        (true, _) => Ok(()),
        (false, Err(Failed { kind, .. })) if kind == Kind::NoQuorum => {
            Err(Failed::new(kind, complaints.join("; ")))
        }
        (false, _) => Err(Failed::new(Kind::Failed, complaints.join("; "))),
    }
}

async fn add(
    client: &Client,
    output: Output,
    name: &str,
    address: &str,
    wait: &Wait,
) -> Result<(), Failed> {
    let arguments = [("name", name), ("address", address)];
    let done = client.post("/cluster/add", &arguments).await?;
    let next = "start it now, with an empty data path and an --initial-cluster that lists it and \
                members of the cluster";
    if wait.wait {
        note(&format!("{} may join: {next}", named(&done)));
        wait_for_voter(client, name, wait.timeout).await?;
        print(output, &done, &format!("{} votes\n", named(&done)));
    } else {
        print(
            output,
            &done,
            &format!("{} may join: {next}\n", named(&done)),
        );
    }
    Ok(())
}

/// Shows each change of what a member is, and how far.
async fn wait_for_voter(client: &Client, name: &str, timeout: Duration) -> Result<(), Failed> {
    let begun = Instant::now();
    let mut said = String::new();
    loop {
        let state = match client.get("/cluster/members").await {
            Ok(answer) => {
                let members = Members::parse(&answer)?;
                let Some(member) = members.find(name) else {
                    let gone = format!("{name} is no longer a member");
                    return Err(Failed::new(Kind::NotFound, gone));
                };
                if member.role == "voter" {
                    return Ok(());
                }
                progress(member)
            }
            // Members restart, too.
            Err(failed) => failed.reason,
        };
        if state != said {
            note(&state);
            said = state;
        }
        if begun.elapsed() > timeout {
            let what = format!("gave up waiting: {said}; it still may join");
            return Err(Failed::new(Kind::Failed, what));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn progress(member: &Member) -> String {
    let name = &member.name;
    match (&*member.role, member.lag) {
        ("announced", _) => format!("{name} has not joined yet"),
        (_, None) => format!("{name} has joined, and nothing has reached it yet"),
        (_, Some(lag)) => format!("{name} catches up: {lag} entries behind"),
    }
}

async fn remove(client: &Client, output: Output, member: &str, force: bool) -> Result<(), Failed> {
    let before = client.get("/cluster/members").await?;
    let there = Members::parse(&before)?.find(member).cloned();
    let force = if force { "true" } else { "false" };
    let arguments = [("name", member), ("force", force)];
    let done = match (client.post("/cluster/remove", &arguments).await, there) {
        // The endpoint was removed itself and ended before it answered; another one says so.
        (Err(failed), Some(there)) if failed.kind == Kind::NotFound => {
            json!({ "id": there.id, "name": there.name })
        }
        (done, _) => done?,
    };
    print(output, &done, &format!("{} was removed\n", named(&done)));
    Ok(())
}

/// `d (id 4)`.
fn named(done: &Value) -> String {
    let name = done["name"].as_str().unwrap_or("?");
    format!("{name} (id {})", done["id"])
}

fn print(output: Output, answer: &Value, table: &str) {
    let text = match output {
        Output::Table => table.to_string(),
        Output::Json => format!("{answer:#}\n"),
    };
    // If nobody reads it, the change was made all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
