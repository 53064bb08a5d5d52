//! Upstream's nsqlookupd as a target.

use std::path::Path;

use super::process::Process;
use super::spec::Program;
use super::{Member, free_address};
use crate::clients::http;
use crate::error::Result;

/// Programs that know nothing of each other, not started yet.
pub(super) fn members(program: &Program, folder: &Path) -> Result<Vec<Member>> {
    let member = |number| {
        let (tcp, http) = (free_address()?, free_address()?);
        let args = vec![
            format!("--tcp-address={tcp}"),
            format!("--http-address={http}"),
            "--broadcast-address=127.0.0.1".into(),
            "--inactive-producer-timeout=1h".into(),
            "--log-level=warn".into(),
        ];
        let log = folder.join(format!("{number}.log"));
        Ok(Member {
            tcp,
            http,
            process: Some(Process::new(&program.path, args, log, None)),
        })
    };
    (0..program.members).map(member).collect()
}

/// Whether it answers.
pub(super) async fn is_ready(member: &Member) -> bool {
    matches!(http::fetch_once(member.http, "/ping").await, Ok((200, _)))
}
