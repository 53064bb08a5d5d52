//! Reads the two sides of a migration, ready to be compared.

use super::args::Registries;
use super::fetch;
use super::inventory::Inventory;
use super::lookupd::Lookupd;
use crate::commands::address::Address;
use crate::error::{Error, Result};

/// Where a member listens by default.
const HERE: &str = "http://127.0.0.1:4161";

/// The named cluster, or the member on this machine. An nsqlookupd that listens there instead is most
/// likely one of the sources: nothing would differ.
async fn cluster(named: Option<Vec<Address>>) -> Result<Lookupd> {
    if let Some(named) = named {
        return Lookupd::new(named);
    }
    let here = Address::parse(HERE).map_err(Error::Usage)?;
    let cluster = Lookupd::new(vec![here])?;
    cluster.ping().await?;
    if !cluster.is_raftlookupd().await {
        let what = format!("{HERE} is not a raftlookupd; name a member with --to");
        return Err(Error::Lookupd(what));
    }
    Ok(cluster)
}

/// The contents of running nsqlookupds and of a cluster.
pub(super) struct Sides {
    /// Each nsqlookupd, by its address.
    pub(super) each: Vec<(String, Inventory)>,
    /// The nsqlookupds together.
    pub(super) there: Inventory,
    /// The cluster.
    pub(super) here: Inventory,
    /// The cluster, to write to.
    pub(super) cluster: Lookupd,
}

impl Sides {
    /// Reads both.
    ///
    /// # Errors
    /// [`crate::error::Error::Lookupd`] if any of them cannot be read.
    pub(super) async fn read(registries: Registries) -> Result<Sides> {
        let cluster = cluster(registries.to).await?;
        let sources = registries.from.into_iter().map(|address| {
            let name = address.to_string();
            Ok((name, Lookupd::new(vec![address])?))
        });
        let sources = sources.collect::<Result<Vec<_>>>()?;
        // Reading can take long; a wrong address should show at once.
        for registry in sources.iter().map(|(_, source)| source).chain([&cluster]) {
            registry.ping().await?;
        }
        let mut each = Vec::new();
        for (name, source) in sources {
            let inventory = fetch::inventory(&source, &name).await?;
            each.push((name, inventory));
        }
        let here = fetch::inventory(&cluster, "the cluster").await?;
        Ok(Sides {
            there: Inventory::union(each.iter().map(|(_, inventory)| inventory)),
            each,
            here,
            cluster,
        })
    }
}
