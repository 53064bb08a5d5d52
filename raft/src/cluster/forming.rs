//! Forms a cluster, or joins one, with an empty data path.
//!
//! With `--initial-cluster`, exactly one member (the first by name) forms the cluster, and only
//! when every listed member answers and none belongs to a cluster yet. The members' instances
//! are part of the first membership. So a member that lost its disk, started again with the same
//! flags, finds a cluster that knows another instance by its name: it joins under a new Raft id
//! and replaces what it was. (Raft breaks if a voter forgets its votes and keeps its id.)

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::identity::OwnMembership;
use crate::error::{Error, Result};
use crate::peer::client::{CallError, PeerClient};
use crate::peer::message::{Declined, FormedCluster, Hello, HelloAnswer, Join, JoinAnswer};
use crate::types::PeerNode;

/// Interval between attempts to reach the others.
const RETRY: Duration = Duration::from_millis(100);

/// The same once all are there and one has only to form the cluster.
const SOON: Duration = Duration::from_millis(10);

/// Interval between log lines that name the missing members.
const REMIND: Duration = Duration::from_secs(5);

/// Deadline for a question to one peer.
const ANSWER: Duration = Duration::from_millis(500);

/// Deadline for a change of the membership.
const CHANGE: Duration = Duration::from_secs(15);

/// The answers of the others, by name.
type Answers = BTreeMap<String, std::result::Result<HelloAnswer, CallError>>;

/// A cluster of one, formed here and now.
pub(crate) fn alone(me: PeerNode) -> OwnMembership {
    OwnMembership {
        cluster: rand::random(),
        id: 1,
        founding: Some([(1, me)].into()),
    }
}

/// Waits for the other members and forms a cluster with them, or finds that there is one and
/// joins it. Waits as long as it takes.
///
/// # Errors
/// [`Error::Membership`] if the members were started with different lists, an address leads to
/// another member, or our name belongs to a living member.
pub(crate) async fn with_others(
    me: &Hello,
    address: &str,
    peers: &PeerClient,
) -> Result<OwnMembership> {
    let mut reminded = Instant::now();
    let mut said = String::new();
    loop {
        let answers = ask_all(me, peers).await;
        for (name, answer) in &answers {
            let Ok(answer) = answer else { continue };
            check_name(name, answer)?;
            let Some(formed) = &answer.formed else {
                // A member of a cluster may have been started with any list since.
                if answer.belongs_to.is_none() {
                    check_list(name, me, answer)?;
                }
                continue;
            };
            if let Some(own) = place_in(formed, me) {
                return Ok(own);
            }
            check_addresses(me, formed)?;
            if let Some(own) = join(formed, me, address, peers, &mut said).await? {
                return Ok(own);
            }
        }
        let first = me.initial.first().is_some_and(|(name, _)| *name == me.name);
        let fresh: Option<Vec<&HelloAnswer>> = answers
            .values()
            .map(|answer| answer.as_ref().ok())
            .collect();
        if let Some(fresh) = fresh.filter(|all| all.iter().all(|one| one.belongs_to.is_none()))
            && first
        {
            return Ok(found(me, &fresh));
        }
        if reminded.elapsed() > REMIND {
            reminded = Instant::now();
            tracing::info!(
                missing = missing(me, &answers),
                "waiting for the other members to form the cluster"
            );
        }
        let all_there = answers.values().all(|answer| answer.is_ok());
        tokio::time::sleep(if all_there { SOON } else { RETRY }).await;
    }
}

/// The members that do not answer, with their addresses and the reasons.
fn missing(me: &Hello, answers: &Answers) -> String {
    let missing = me.initial.iter().filter_map(|(name, address)| {
        let why = match answers.get(name)? {
            Err(error) => error.to_string(),
            Ok(answer) if answer.belongs_to.is_some() => {
                "it belongs to a cluster, and is still loading".to_string()
            }
            Ok(_) => return None,
        };
        Some(format!("{name} at {address}: {why}"))
    });
    let missing = missing.collect::<Vec<_>>().join(", ");
    match me.initial.first() {
        // All are there.
        Some((first, address)) if missing.is_empty() => {
            format!("{first} at {address}: it has to form the cluster, as the first by name")
        }
        _ => missing,
    }
}

async fn ask_all(me: &Hello, peers: &PeerClient) -> Answers {
    let mut questions = tokio::task::JoinSet::new();
    for (name, address) in &me.initial {
        if *name == me.name {
            continue;
        }
        let (name, address) = (name.clone(), address.clone());
        let (me, peers) = (me.clone(), peers.clone());
        questions.spawn(async move {
            let answer = peers.ask(&address, me, ANSWER).await;
            (name, answer)
        });
    }
    questions.join_all().await.into_iter().collect()
}

/// Our place, if the cluster was formed with this instance.
fn place_in(formed: &FormedCluster, me: &Hello) -> Option<OwnMembership> {
    let (id, _) = formed
        .members
        .iter()
        .find(|(_, node)| node.instance == me.instance)?;
    Some(OwnMembership {
        cluster: formed.cluster,
        id: *id,
        founding: None,
    })
}

async fn join(
    formed: &FormedCluster,
    me: &Hello,
    address: &str,
    peers: &PeerClient,
    said: &mut String,
) -> Result<Option<OwnMembership>> {
    let members = formed.members.iter();
    let Some((_, leader)) = members.clone().find(|(id, _)| Some(*id) == formed.leader) else {
        return Ok(None);
    };
    let node = PeerNode {
        name: me.name.clone(),
        address: address.to_string(),
        instance: me.instance,
    };
    match peers.ask(&leader.address, Join { node }, CHANGE).await {
        Ok(JoinAnswer { cluster, id }) => {
            tracing::info!(
                cluster = %format_args!("{cluster:032x}"),
                leader = leader.name,
                id,
                "there is a cluster already, and this data path is empty: joined as a new member"
            );
            let founding = None;
            Ok(Some(OwnMembership {
                cluster,
                id,
                founding,
            }))
        }
        Err(CallError::Declined(taken @ Declined::NameTaken { .. })) => {
            Err(Error::Membership(taken.to_string()))
        }
        Err(error) => {
            let reason = error.to_string();
            if *said != reason {
                tracing::info!(reason, leader = leader.name, "waiting to be admitted");
                *said = reason;
            }
            Ok(None)
        }
    }
}

/// Ids follow the order of the names, so every member would compute the same ones.
fn found(me: &Hello, others: &[&HelloAnswer]) -> OwnMembership {
    let instance = |name: &str| {
        let other = others.iter().find(|answer| answer.me.name == name);
        other.map_or(me.instance, |answer| answer.me.instance)
    };
    let members = (1..).zip(&me.initial).map(|(id, (name, address))| {
        let node = PeerNode {
            name: name.clone(),
            address: address.clone(),
            instance: instance(name),
        };
        (id, node)
    });
    OwnMembership {
        cluster: rand::random(),
        id: 1,
        founding: Some(members.collect()),
    }
}

fn check_name(name: &str, answer: &HelloAnswer) -> Result<()> {
    if answer.me.name == *name {
        return Ok(());
    }
    Err(Error::Membership(format!(
        "--initial-cluster: the address of {name} leads to a member called {}",
        answer.me.name
    )))
}

fn check_list(name: &str, me: &Hello, answer: &HelloAnswer) -> Result<()> {
    if answer.me.initial == me.initial {
        return Ok(());
    }
    Err(Error::Membership(format!(
        "--initial-cluster: {name} was started with another list; \
         it must be the same at every member"
    )))
}

/// Refuses a cluster whose members have other addresses than in our list: one wrong address must not
/// make us a member of another cluster.
fn check_addresses(me: &Hello, formed: &FormedCluster) -> Result<()> {
    for (name, address) in me.initial.iter().filter(|(name, _)| *name != me.name) {
        let known = formed.members.iter().find(|(_, node)| node.name == *name);
        if let Some((_, node)) = known
            && node.address != *address
        {
            return Err(Error::Membership(format!(
                "--initial-cluster: {name} is at {address} in our list, but at {} for the \
                 cluster that answers there",
                node.address
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
